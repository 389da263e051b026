"""A site: one place in one model where activations are read."""

from dataclasses import dataclass


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
