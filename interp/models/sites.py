"""Which places of a model can be read, under short names.

TransformerLens keeps several aliases for one hook and drops unknown names inside a list without a
word; here every site has one canonical hook and every name is checked before any compute.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from interp.errors import ConfigError, UnknownName
from interp.store.site import Site

HOOKS: Mapping[str, tuple[str, ...]] = {
    "resid_pre": ("hook_in",),
    "resid_post": ("hook_out",),
    "attn_z": ("attn.o.hook_in",),
    "attn_out": ("attn.hook_out",),
    "mlp_post": ("mlp.out.hook_in",),
    "mlp_out": ("mlp.hook_out", "mlp.out.hook_out"),
}
"""Short form of a kind of site → its canonical hook within a block, the first of them that fires.

``attn_z`` has the heads side by side: ``n_heads · d_head`` numbers; ``attn_z.5.h3`` is one of
them. The middle of the residual stream is left out: TransformerLens' hook of that name is the
input of a norm in some families. BERT's MLP is no module of its own, so that only the hook of its
last matrix fires.
"""
MASKED_HOOKS: Mapping[str, tuple[str, ...]] = {
    **HOOKS,
    "attn_out": ("attn.o.hook_out", "attn.hook_out"),
}
"""The same for masked language models: what BERT calls attention ends with the residual stream
added and normed, so that its output would be no part of the stream but the whole of it."""
_HEAD = re.compile(r"attn_z\.\d+\.h(\d+)")


def candidates(
    n_layers: int, hooks: Collection[str], *, masked: bool = False
) -> list[tuple[str, str, int]]:
    """(short name, hook, layer) of every site the model may have, block by block.

    A name may come with several hooks: the first that fires is the site's.
    """
    kinds = MASKED_HOOKS if masked else HOOKS
    return [
        (f"{kind}.{layer}", f"blocks.{layer}.{hook}", layer)
        for layer in range(n_layers)
        for kind, choice in kinds.items()
        for hook in choice
        if f"blocks.{layer}.{hook}" in hooks
    ]


def heads(site: Site, count: int) -> dict[str, Site]:
    """The sites of an attention layer's single heads; none if its width is no multiple of them."""
    if count < 1 or site.layer is None or site.width % count:
        return {}
    names = [f"{site.name}.h{head}" for head in range(count)]
    width = site.width // count
    return {name: Site(name=name, hook=site.hook, width=width, layer=site.layer) for name in names}


def part(site: Site) -> slice:
    """Which of its hook's numbers a site is: all, or one head's."""
    match = _HEAD.fullmatch(site.name)
    if match is None:
        return slice(None)
    return slice(int(match[1]) * site.width, (int(match[1]) + 1) * site.width)


def find(sites: Mapping[str, Site], heads: Mapping[str, Site], name: str, model: str) -> Site:
    """A site by its short or canonical name.

    Raises:
        UnknownName: the model has no such site; near matches are listed.
    """
    if name in sites:
        return sites[name]
    if name in heads:
        return heads[name]
    for site in sites.values():
        if site.hook == name:
            return site
    # Heads are many: they are offered only to who asked for one.
    known = [*sites, *heads] if re.search(r"\.h\d*$", name) else [*sites]
    raise UnknownName(f"site of {model}", name, known, f"All: interp models sites {model}")


def find_all(
    sites: Mapping[str, Site], heads: Mapping[str, Site], names: Sequence[str], model: str
) -> list[Site]:
    """Sites by names or patterns, in the order given, each once.

    A pattern means whole sites (``attn_z.*`` is no single head) unless it matches heads alone
    (``attn_z.5.h*``).

    Raises:
        ConfigError: no names are given.
        UnknownName: a name or pattern matches nothing.
    """
    found: dict[str, Site] = {}
    for name in [names] if isinstance(names, str) else names:
        matches: list[Site] = []
        if set(name) & set("*?["):
            for group in (sites, heads):
                matches = matches or [s for key, s in group.items() if fnmatchcase(key, name)]
        found.update((site.name, site) for site in matches or [find(sites, heads, name, model)])
    if not found:
        raise ConfigError("no site was named; `interp models sites MODEL` lists them")
    return list(found.values())


def deepest(sites: Iterable[Site]) -> int | None:
    """The layer to stop after, or None if a site needs the whole model."""
    layers = [site.layer for site in sites]
    known = [layer for layer in layers if layer is not None]
    return max(known) + 1 if len(known) == len(layers) else None
