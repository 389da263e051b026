"""A site: one place in one model where activations are read.

Several sites of one store can be read as one, a *joint site*: ``resid_post.4+resid_post.9``, whose
activation at a row is theirs side by side, in the order named.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from interp.errors import ConfigError

JOINT = "+"
"""Between the names of a joint site's parts."""


@dataclass(frozen=True)
class Site:
    """One canonical hook of one model, with its width."""

    name: str
    """The short form, such as ``resid_post.9``; used in files, URLs and on the command line."""
    hook: str
    """The canonical TransformerLens hook name, such as ``blocks.9.hook_out``."""
    width: int
    """Numbers per token."""
    layer: int | None
    """The block it lies in, or None if it lies in none."""


def columns(widths: Iterable[int]) -> list[slice]:
    """Where parts of these widths lie when they stand side by side."""
    return [slice(low, high) for low, high in pairwise(accumulate(widths, initial=0))]


def joint(sites: Sequence[Site]) -> Site:
    """Several sites as one; a single one as it is.

    Raises:
        ConfigError: a site is among them twice.
    """
    names = [site.name for site in sites]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{name} is named twice in {JOINT.join(names)}; name each site once")
    if len(sites) == 1:
        return sites[0]
    hook, width = JOINT.join(site.hook for site in sites), sum(site.width for site in sites)
    return Site(name=JOINT.join(names), hook=hook, width=width, layer=None)
