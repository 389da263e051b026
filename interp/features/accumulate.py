"""Running statistics of many units, one block of rows after another, in bounded memory.

Per unit: active tokens, sum, sum of squares, maximum, a histogram of active values, activation
mass by label (`LabelMass`) and by token (`TokenMass`), the strongest rows and a uniform sample of
the active rows. The sample is priority sampling: every row of the store has one random rank (a
permutation), and a unit keeps its active rows of highest rank. That is a uniform sample without
replacement, independent of order and of block size. All units share the ranks.
"""

from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from interp.compiled import compiled
from interp.features.best import Best
from interp.features.codes import Codes
from interp.features.firing import Firing
from interp.features.labels import LabelMass, Labels
from interp.features.tokens import TokenMass
from interp.sae.kernels.compiled import balanced, share
from interp.store import ActivationStore

Array = NDArray[Any]

BINS = 128
"""Four bins an octave over 2⁻¹⁶ to 2¹⁶; what lies beyond counts in the first and last bin."""
_SHIFT = 21  # of a float32's bits: exponent and the two leading bits of the mantissa remain
_FIRST = (127 - 16) << 2


def histogram_edges() -> Float32[np.ndarray, " edges"]:
    """Edges of the bins: each power of two times 1, 1.25, 1.5 and 1.75."""
    return ((np.arange(BINS + 1, dtype=np.int32) + _FIRST) << _SHIFT).view(np.float32)


class Rows:
    """What belongs to each row of a store, the same for every basis."""

    def __init__(self, store: ActivationStore, seed: int) -> None:
        """Rank the rows at random and number labels and tokens."""
        self.ranks: Int64[np.ndarray, " rows"] = np.random.default_rng([seed, 0xA1]).permutation(
            store.rows
        )
        self.labels = Labels(store, seed)
        self.documents, self.tokens = store.document_index, store.tokens
        self.kinds: Int64[np.ndarray, " kinds"] = np.unique(store.tokens).astype(np.int64)


class Accumulator:
    """Everything about one range of units that one pass over the rows gives."""

    def __init__(self, units: int, rows: Rows, *, top: int, sample: int, keep: bool = True) -> None:
        """Start empty.

        Args:
            units: how many.
            rows: what belongs to the store's rows.
            top: strongest rows to keep per unit.
            sample: random active rows to keep per unit.
            keep: whether to keep all non-zero activations in `Codes`, if there are not too many.
        """
        self.units, self.rows = units, 0
        self._sum, self._squares = np.zeros(units), np.zeros(units)
        self.max = np.zeros(units, np.float32)
        self.counts: Int64[np.ndarray, "units bins"] = np.zeros((units, BINS), np.int64)
        self._rows = rows
        self.labels = LabelMass(units, rows.labels)
        self.tokens = TokenMass(units, rows.kinds)
        self.strongest, self.sample = Best(units, top), Best(units, sample)
        self.codes: Codes | None = Codes(units) if keep else None

    def add(self, rows: Int64[np.ndarray, " n"], firing: Firing) -> None:
        """Take a block of rows, later ones with higher numbers: their numbers and activations."""
        self.rows += len(rows)
        bounds = balanced(firing.offsets)
        bits = firing.values.view(np.int32)
        share(
            _tally, bounds, firing.offsets, firing.values, bits,
            self._sum, self._squares, self.max, self.counts,
        )  # fmt: skip
        self.labels.add(self._rows.documents[rows].astype(np.int64), firing)
        self.tokens.add(self._rows.tokens[rows].astype(np.int64), firing)
        self.strongest.offer(rows, None, firing)
        self.sample.offer(rows, self._rows.ranks[rows], firing)
        if self.codes is not None and not self.codes.add(rows, firing):
            self.codes = None

    @property
    def active(self) -> Int64[np.ndarray, " units"]:
        """Tokens on which each unit is active."""
        return self.counts.sum(axis=1)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over all tokens, zeros included."""
        mean = self._sum / max(self.rows, 1)
        variance = self._squares / max(self.rows, 1) - np.square(mean)
        return mean, np.sqrt(np.maximum(variance, 0))


@compiled
@no_type_check
def _tally(
    first: int,
    last: int,
    offsets: Array,
    values: Array,
    bits: Array,
    total: Array,
    squares: Array,
    largest: Array,
    counts: Array,
) -> None:
    """Moments, maximum and histogram of units ``first`` to ``last``; a NaN stays the maximum."""
    for unit in range(first, last):
        for e in range(offsets[unit], offsets[unit + 1]):
            value = np.float64(values[e])
            total[unit] += value
            squares[unit] += value * value
            if not values[e] <= largest[unit]:
                largest[unit] = values[e]
            place = min(max((bits[e] >> _SHIFT) - _FIRST, 0), BINS - 1)
            counts[unit, place] += 1
