"""MonoScore: how alike the contexts are on which a unit fires (Pach et al. 2025, 2504.02821).

With activations a_s ≥ 0 of one unit and unit context embeddings e_s, the score is the mean cosine
of pairs of tokens, weighted by both activations (their eq. 4). In linear time:

    score = (‖Σ a_s e_s‖² − Σ a_s²) / ((Σ a_s)² − Σ a_s²)

It does not change when a is scaled, so min-max normalisation drops out for a ≥ 0.

1. Whole documents are scored, drawn at random up to a number of rows.
2. Null: each replicate shifts the embeddings of every document in a circle, by its own random
   number of tokens. What remains is what the documents a unit fires in have in common, and what
   all tokens have in common; which tokens it picks within them is destroyed. All replicates and
   all units share one matrix product.
3. ``monosemanticity`` = (score − null mean) / (1 − null mean): 0 at chance, 1 if all contexts are
   the same. It is an effect size; its standard error is a jackknife over groups of documents.
4. ``monoscore_z`` answers another question, how surely the score is above chance, and grows with
   the number of active tokens: sorting by z would put dense units above sparse ones of equal
   purity. Mean and spread of the null are estimated from n replicates, so that for a chance unit

       t = (score − null mean) / (null sd · √(1 + 1/n))

   follows Student's t with n − 1 degrees of freedom, not the normal law. z is the standard normal
   value of the same tail probability.

A unit active on fewer than ``least_active`` scored rows gets NaN.
"""

from dataclasses import dataclass
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from numpy.typing import NDArray
from scipy.special import ndtri, stdtr
from torch import Tensor

from interp.compiled import compiled
from interp.features.firing import Firing
from interp.features.jackknife import GROUPS, jackknife_error
from interp.sae.kernels.compiled import balanced, share

Array = NDArray[Any]

SCORES = {
    "monosemanticity": "(monoscore - null mean) / (1 - null mean); 0 is chance, 1 identical "
    "contexts; an effect size, comparable between densities",
    "monoscore": "mean cosine of context embeddings over pairs of tokens, weighted by both "
    "activations (Pach et al. 2025, 2504.02821)",
    "monoscore_null": "mean of monoscore when embeddings are shifted in a circle within documents",
    "monoscore_null_sd": "standard deviation of monoscore over those shifts",
    "monosemanticity_se": "its standard error, by a jackknife over eight groups of documents",
    "monoscore_z": "experimental; how far monoscore is from its null, as a standard normal value; "
    "from Student's t, since the null's mean and spread are estimated from the shifts",
    "scored_rows": "scored tokens on which the unit is active",
}
SPARSE_BELOW = 0.02
"""Density of a block below which a sparse product is faster than a dense one."""


@dataclass(frozen=True)
class Scores:
    """One entry a unit; NaN where a unit is too rare."""

    monosemanticity: Float64[np.ndarray, " units"]
    monosemanticity_se: Float64[np.ndarray, " units"]
    monoscore: Float64[np.ndarray, " units"]
    monoscore_null: Float64[np.ndarray, " units"]
    monoscore_null_sd: Float64[np.ndarray, " units"]
    monoscore_z: Float64[np.ndarray, " units"]
    scored_rows: Int64[np.ndarray, " units"]


class Shifts:
    """The scored rows' embeddings, true and shifted."""

    def __init__(
        self,
        embeddings: Float[np.ndarray, "rows d"],
        documents: Int64[np.ndarray, " rows"],
        *,
        shifts: int,
        seed: int,
    ) -> None:
        """Draw the shifts.

        Args:
            embeddings: unit context embeddings of the scored rows.
            documents: each row's document; rows of a document stand together.
            shifts: replicates of the null.
            seed: of the shifts.
        """
        self.embeddings = torch.from_numpy(np.ascontiguousarray(embeddings, dtype=np.float32))
        self.replicates, self.width = shifts + 1, embeddings.shape[1]
        _, first, place, sizes = np.unique(
            documents, return_index=True, return_inverse=True, return_counts=True
        )
        self._first, self._size = first[place], sizes[place]
        draw = np.random.default_rng([seed, 0x5417])
        dealt = np.random.default_rng([seed, 0x5418]).permutation(len(sizes)) % GROUPS
        self.group: Int64[np.ndarray, " rows"] = dealt[place]
        moves = draw.integers(1, np.maximum(sizes, 2), size=(shifts, len(sizes)))
        self._moves = np.concatenate([np.zeros((1, len(sizes)), np.int64), moves])[:, place]

    def moved(self, start: int, stop: int) -> Int64[np.ndarray, "replicates rows"]:
        """For scored rows ``start`` to ``stop``: whose embedding each replicate gives them."""
        part = slice(start, stop)
        first, size = self._first[part], self._size[part]
        return first + (np.arange(start, stop) - first + self._moves[:, part]) % size

    def block(self, start: int, stop: int) -> Float[Tensor, "rows columns"]:
        """Embeddings of scored rows ``start`` to ``stop``: true first, then each replicate."""
        return self.embeddings[torch.from_numpy(self.moved(start, stop).T)].flatten(1)


class MonoScore:
    """Sums of one basis over the scored rows, block by block."""

    def __init__(self, units: int, shifts: Shifts) -> None:
        """Start at zero."""
        self._shifts = shifts
        self._vectors = torch.zeros(units, shifts.replicates * shifts.width)
        self._sum, self._squares = np.zeros(units), np.zeros(units)
        self._active = np.zeros(units, np.int64)
        self._grouped = np.zeros((units, GROUPS, shifts.width), np.float32)
        self._group_sum = np.zeros((units, GROUPS))
        self._group_squares = np.zeros((units, GROUPS))

    def add(self, firing: Firing, start: int) -> None:
        """Take activations of scored rows, of which ``start`` is the first."""
        self._active += np.diff(firing.offsets)
        bounds = balanced(firing.offsets)
        share(_moments, bounds, firing.offsets, firing.values, self._sum, self._squares)
        stop = start + firing.rows
        share(
            _by_group, bounds, firing.offsets, firing.places, firing.values,
            self._shifts.group[start:stop], self._shifts.embeddings.numpy()[start:stop],
            self._grouped, self._group_sum, self._group_squares,
        )  # fmt: skip
        if firing.density > SPARSE_BELOW:
            block = self._shifts.block(start, stop)
            self._vectors.addmm_(torch.from_numpy(firing.dense()).T, block)
            return
        share(
            _project, bounds, firing.offsets, firing.places, firing.values,
            self._shifts.moved(start, stop), self._shifts.embeddings.numpy(), self._vectors.numpy(),
        )  # fmt: skip

    def result(self, least_active: int) -> Scores:
        """The scores."""
        parts = self._vectors.double().unflatten(1, (self._shifts.replicates, -1))
        lengths = parts.square().sum(dim=2).numpy()
        pairs = np.square(self._sum) - self._squares
        scored = (self._active >= least_active) & (pairs > 0)
        pairs = np.where(scored, pairs, np.nan)
        all_scores = (lengths - self._squares[:, None]) / pairs[:, None]
        score, null = all_scores[:, 0], all_scores[:, 1:].mean(axis=1)
        spread = all_scores[:, 1:].std(axis=1, ddof=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            # No spread (documents of one token): there is no null to compare with.
            spread_of_one = np.where(spread > 1e-12, spread, np.nan)
            effect = np.where(null < 1 - 1e-9, (score - null) / (1 - null), np.nan)
            error = np.where(null < 1 - 1e-9, self._error(pairs) / (1 - null), np.nan)
        z = _normal((score - null) / spread_of_one, self._shifts.replicates - 1)
        return Scores(effect, error, score, null, spread, z, self._active)

    def _error(self, pairs: Float64[np.ndarray, " units"]) -> Float64[np.ndarray, " units"]:
        """Standard error of the score, the null taken as known."""
        used = np.unique(self._shifts.group)
        parts = self._grouped.astype(np.float64)
        lengths = np.square(parts.sum(axis=1, keepdims=True) - parts).sum(axis=2)
        squares = self._squares[:, None] - self._group_squares
        rest = np.square(self._sum[:, None] - self._group_sum) - squares
        enough = (rest > 1e-9 * np.square(self._sum)[:, None]) & np.isfinite(pairs)[:, None]
        scores = (lengths - squares) / np.where(enough, rest, np.nan)
        return jackknife_error(scores[:, used].T)


def _normal(deviation: np.ndarray, replicates: int) -> Float64[np.ndarray, " units"]:
    """Standard normal values of deviations in spreads of a null of so many replicates."""
    t = deviation / np.sqrt(1 + 1 / replicates)
    return -np.sign(t) * ndtri(stdtr(replicates - 1, -np.abs(t)))


@compiled
@no_type_check
def _moments(
    first: int, last: int, offsets: Array, values: Array, total: Array, squares: Array
) -> None:
    """Sums and sums of squares of units ``first`` to ``last``."""
    for unit in range(first, last):
        for e in range(offsets[unit], offsets[unit + 1]):
            total[unit] += values[e]
            squares[unit] += np.float64(values[e]) * values[e]


@compiled
@no_type_check
def _by_group(
    first: int,
    last: int,
    offsets: Array,
    places: Array,
    values: Array,
    group: Array,
    embeddings: Array,
    vectors: Array,
    total: Array,
    squares: Array,
) -> None:
    """Sums of units ``first`` to ``last`` by the group of the row's document."""
    for unit in range(first, last):
        for e in range(offsets[unit], offsets[unit + 1]):
            own, given = group[places[e]], embeddings[places[e]]
            out = vectors[unit, own]
            for column in range(len(out)):
                out[column] += values[e] * given[column]
            total[unit, own] += values[e]
            squares[unit, own] += np.float64(values[e]) * values[e]


@compiled
@no_type_check
def _project(
    first: int,
    last: int,
    offsets: Array,
    places: Array,
    values: Array,
    moved: Array,
    embeddings: Array,
    vectors: Array,
) -> None:
    """Add activation times embedding for units ``first`` to ``last``, replicate by replicate.

    A replicate needs only the embeddings of the block's documents, which stay in the cache.
    """
    width = embeddings.shape[1]
    for replicate in range(len(moved)):
        source = moved[replicate]
        for unit in range(first, last):
            out = vectors[unit, replicate * width : (replicate + 1) * width]
            for e in range(offsets[unit], offsets[unit + 1]):
                given = embeddings[source[places[e]]]
                for column in range(len(out)):
                    out[column] += values[e] * given[column]


def scored_documents(
    sizes: Int64[np.ndarray, " documents"], rows: int, seed: int
) -> Int64[np.ndarray, " chosen"]:
    """Random documents with about ``rows`` rows in all, ascending; at least one."""
    order = np.random.default_rng([seed, 0xD0C5]).permutation(len(sizes))
    order = order[sizes[order] > 0]
    count = int(np.searchsorted(np.cumsum(sizes[order]), rows, side="right"))
    return np.sort(order[: max(count, 1)])
