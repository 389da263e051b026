"""Which places of a model can be read, under short names.

TransformerLens keeps several aliases for one hook and drops unknown names inside a list without a
word; here every site has one canonical hook and every name is checked before any compute.
"""

from collections.abc import Collection, Iterable, Mapping

from interp.errors import UnknownName
from interp.store.site import Site

HOOKS: Mapping[str, str] = {
    "resid_pre": "hook_in",
    "resid_post": "hook_out",
    "attn_z": "attn.o.hook_in",
    "attn_out": "attn.hook_out",
    "mlp_post": "mlp.out.hook_in",
    "mlp_out": "mlp.hook_out",
}
"""Short form of a kind of site → its canonical hook within a block.

``attn_z`` has the heads side by side: ``n_heads · d_head`` numbers. The middle of the residual
stream is left out: TransformerLens' hook of that name is the input of a norm in some families.
"""


def candidates(n_layers: int, hooks: Collection[str]) -> list[tuple[str, str, int]]:
    """(short name, hook, layer) of every site the model has, block by block."""
    found: list[tuple[str, str, int]] = []
    for layer in range(n_layers):
        for kind, hook in HOOKS.items():
            name = f"blocks.{layer}.{hook}"
            if name in hooks:
                found.append((f"{kind}.{layer}", name, layer))
    return found


def find(sites: Mapping[str, Site], name: str, model: str) -> Site:
    """A site by its short or canonical name.

    Raises:
        UnknownName: the model has no such site; near matches are listed.
    """
    if name in sites:
        return sites[name]
    for site in sites.values():
        if site.hook == name:
            return site
    raise UnknownName(f"site of {model}", name, sites, f"All: interp models sites {model}")


def deepest(sites: Iterable[Site]) -> int | None:
    """The layer to stop after, or None if a site needs the whole model."""
    layers = [site.layer for site in sites]
    known = [layer for layer in layers if layer is not None]
    return max(known) + 1 if len(known) == len(layers) else None
