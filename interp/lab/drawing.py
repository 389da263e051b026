"""Which features of a planted world are active: many are asked, few are looked at.

Given z, feature i is active with probability Φ(a_i), a_i = start_i + slope_i z, each by itself.

1. Features without a parent are asked at once, by 16 random bits: with u16 of them, U lies in
   [u16, u16 + 1)/2¹⁶, so where a_i ≤ Φ⁻¹(u16/2¹⁶), by a table, the feature is silent whatever the
   remaining bits are. Only elsewhere are they drawn and Φ(a_i) computed: rates come out exactly.
2. Children are asked only where their parent is active: those of silent parents would be switched
   off. Of active siblings that exclude each other one is chosen evenly.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64

_KEYS = 3  # that `drawing_loops.active_features` needs of each row
_ROOM = 1 << 22  # entries that a group of rows may have, between two copies


@dataclass(frozen=True)
class Active:
    """The active features of rows and their values: few of many."""

    feature: Int32[np.ndarray, " entry"]
    """Row after row, ascending within a row."""
    parent: Int32[np.ndarray, " entry"]
    """Where the parent stands among the row's entries, or -1."""
    starts: Int64[np.ndarray, " row_and_end"]
    """Each row's first entry, then their number."""
    values: Float32[np.ndarray, " entry"]
    """At least 0."""

    def codes(self, features: int) -> Float32[np.ndarray, "row feature"]:
        """The values of every feature."""
        codes = np.zeros((len(self.starts) - 1, features), np.float32)
        codes[np.repeat(np.arange(len(codes)), np.diff(self.starts)), self.feature] = self.values
        return codes


class Odds:
    """How likely each feature is, given z and its parent."""

    def __init__(
        self,
        start: Float32[np.ndarray, " feature"],
        slope: Float32[np.ndarray, "feature rank"],
        *,
        roots: int,
        branching: int,
        parents: int,
        exclusive: bool,
    ) -> None:
        """Take a = start + slope z and the forest's shape.

        Args:
            start: one number a feature.
            slope: the same for each entry of z.
            roots: features that no parent gates, before the children; all, without a forest.
            branching: children of each parent.
            parents: features that have children: the first ones.
            exclusive: whether at most one of siblings is active.
        """
        beyond = roots + parents * branching
        lone = np.r_[0:roots, beyond : len(start)]
        self._features = len(start)
        self._odds = (start, slope, start[lone], np.ascontiguousarray(slope[lone].T))
        self._forest = (roots, branching, parents, exclusive)

    def draw(
        self, z: Float32[np.ndarray, "row rank"], generator: np.random.Generator
    ) -> tuple[Int32[np.ndarray, " entry"], Int32[np.ndarray, " entry"], Int64[np.ndarray, " end"]]:
        """Features, places of their parents and starts of rows, as `Active` has them.

        Args:
            z: what the features of a row have in common.
            generator: of everything else.
        """
        from interp.lab.drawing_loops import active_features
        from interp.sae.kernels.compiled import even, share

        keys = generator.integers(0, 2**64, (len(z), _KEYS), np.uint64)
        counts = np.empty(len(z), np.int64)
        size = max(1, _ROOM // self._features)
        feature, parent = np.empty((2, min(size, len(z)) * self._features), np.int32)
        found: list[tuple[np.ndarray, np.ndarray]] = []
        for low in range(0, len(z), size):
            group = slice(low, low + size)
            bounds = even(len(z[group]))
            share(
                active_features,
                bounds,
                *self._odds,
                thresholds(),
                *self._forest,
                z[group],
                keys[group],
                feature,
                parent,
                counts[group],
            )
            for first, last in zip(bounds, bounds[1:], strict=False):
                at = first * self._features
                end = at + counts[low + first : low + last].sum()
                found.append((feature[at:end].copy(), parent[at:end].copy()))
        features, parents = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return features, parents, np.concatenate([[0], counts.cumsum()])


@cache
def thresholds() -> Float32[np.ndarray, " bits"]:
    """Φ⁻¹(t/2¹²) for t = 0, 1, ..., rounded down: the table for the first 12 bits of u16."""
    edges = torch.special.ndtri(torch.arange(4096, dtype=torch.float64) / 4096).numpy()
    return np.nextafter(edges.astype(np.float32), np.float32(-np.inf))
