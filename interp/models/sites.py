"""Which places of a model can be read, under short names.

TransformerLens keeps several aliases for one hook and drops unknown names inside a list without a
word; here every site has one canonical hook and every name is checked before any compute.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from interp.errors import ConfigError, UnknownName
from interp.store.site import Site

HOOKS: Mapping[str, tuple[str, ...]] = {
    "resid_pre": ("hook_in",),
    "resid_post": ("hook_out",),
    "attn_z": ("attn.o.hook_in",),
    "attn_out": ("attn.hook_out",),
    "mlp_in": ("mlp.hook_in",),
    "mlp_post": ("mlp.out.hook_in",),
    "mlp_out": ("mlp.hook_out", "mlp.out.hook_out"),
}
"""Short form of a kind of site → its canonical hook within a block, the first of them that fires.

``mlp_in`` is what the MLP reads, after the norm before it; a transcoder maps it to ``mlp_out``.
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
DECODER_HOOKS: Mapping[str, tuple[str, ...]] = {
    **HOOKS,
    "attn_z": ("self_attn.o.hook_in",),
    "attn_out": ("self_attn.hook_out",),
    "cross_z": ("cross_attn.o.hook_in",),
    "cross_out": ("cross_attn.hook_out",),
}
"""The same for the decoder of an encoder–decoder, whose blocks attend to the encoder as well."""
WITH_HEADS = ("attn_z", "cross_z")
_HEAD = re.compile(r"(?:\w+\.)?(?:attn|cross)_z\.\d+\.h(\d+)")


@dataclass(frozen=True)
class Block:
    """Where one block of a model is, and what its sites are called."""

    path: str
    """``blocks.3``; in an encoder–decoder ``encoder_blocks.3`` or ``decoder_blocks.3``."""
    prefix: str
    """Before a site's kind: nothing, or ``enc.`` or ``dec.``"""
    kinds: Mapping[str, tuple[str, ...]]

    def site(self, kind: str) -> str:
        """The short name of its site of a kind: ``resid_post.3`` or ``enc.resid_post.3``."""
        return f"{self.prefix}{kind}.{self.path.rpartition('.')[2]}"


def blocks_of(hooks: Collection[str], *, masked: bool = False) -> list[Block]:
    """A model's blocks in the order they run, told from its hooks' names."""
    stacks = (
        ("blocks", "", MASKED_HOOKS if masked else HOOKS),
        ("encoder_blocks", "enc.", HOOKS),
        ("decoder_blocks", "dec.", DECODER_HOOKS),
    )
    found: list[Block] = []
    for stack, prefix, kinds in stacks:
        depth = 0
        while f"{stack}.{depth}.hook_in" in hooks:
            found.append(Block(f"{stack}.{depth}", prefix, kinds))
            depth += 1
    return found


def kind_of(name: str) -> str:
    """The kind of a site by its short name: ``resid_post`` of ``enc.resid_post.3``."""
    return name.removeprefix("enc.").removeprefix("dec.").partition(".")[0]


def candidates(blocks: Sequence[Block], hooks: Collection[str]) -> list[tuple[str, str, int]]:
    """(short name, hook, layer) of every site the model may have, block by block.

    A name may come with several hooks: the first that fires is the site's.
    """
    return [
        (block.site(kind), f"{block.path}.{hook}", layer)
        for layer, block in enumerate(blocks)
        for kind, choice in block.kinds.items()
        for hook in choice
        if f"{block.path}.{hook}" in hooks
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
    """The block to stop before, or None if a site needs the whole model."""
    layers = [site.layer for site in sites]
    known = [layer for layer in layers if layer is not None]
    return max(known) + 1 if len(known) == len(layers) else None
