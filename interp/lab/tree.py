"""A forest over features: children fire only with their parent, and may exclude each other.

Features are numbered breadth first: roots, then the children of the first root, of the second, ...;
features beyond the forest stand alone. Level by level (`interp.lab.drawing`):

1. gate: a child is active only where its parent is;
2. exclude: of siblings that are still active, one chosen evenly at random stays;
3. scale: with a_p the parent's value and μ_p its mean magnitude, a child's value is multiplied by
   a_p/μ_p.

As in SynthSAEBench (Chanin et al., SAELens's ``synthetic`` module): gating and exclusion lower the
rates, and `Tree.compensated` raises the rates at which children are drawn to make up for it,
approximately: by 1/p_parent, and by 1 + Σ_siblings p/p_parent for exclusion.
"""

from dataclasses import dataclass

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from interp.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The forest's shape."""

    roots: int = 8
    """Number of trees."""
    branching: int = 4
    """Children of each parent."""
    depth: int = 1
    """Levels of children below the roots."""
    exclusive: bool = True
    """Whether at most one of siblings is active."""
    scaled: bool = True
    """Whether a child's value is multiplied by its parent's over the parent's mean."""
    compensate: bool = True
    """Whether children are drawn more often, to make up for gating and exclusion."""

    def __post_init__(self) -> None:
        """Check every setting."""
        if self.roots < 1 or self.depth < 1 or self.branching < 2:
            raise ConfigError(
                "a tree needs at least 1 root, 1 level of children and 2 children a parent, got "
                f"{self.roots}, {self.depth} and {self.branching}"
            )

    def levels(self) -> list[tuple[int, int, int]]:
        """First parent, first child and number of parents of each level of children."""
        found: list[tuple[int, int, int]] = []
        parent, count = 0, self.roots
        for _ in range(self.depth):
            found.append((parent, parent + count, count))
            parent, count = parent + count, count * self.branching
        return found

    def size(self) -> int:
        """Features in the forest."""
        _, child, parents = self.levels()[-1]
        return child + parents * self.branching

    def parents(self) -> int:
        """Features that have children: the first ones."""
        parent, _, count = self.levels()[-1]
        return parent + count

    def compensated(self, rates: Float[Tensor, " feature"]) -> Float[Tensor, " feature"]:
        """The rates to draw at, at most 1, so that about ``rates`` are left."""
        if not self.compensate:
            return rates
        drawn = rates.clone()
        for parent, child, count in self.levels():
            own = rates[parent : parent + count, None]
            group = rearrange(
                rates[child : child + count * self.branching], "(p c) -> p c", p=count
            )
            share = group / own
            if self.exclusive:
                share = share * (1 + (group.sum(dim=1, keepdim=True) - group) / own)
            drawn[child : child + count * self.branching] = rearrange(share, "p c -> (p c)")
        return drawn.clamp(max=1.0)
