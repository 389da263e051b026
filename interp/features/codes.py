"""The non-zero activations of a sparse basis, kept so that windows need no second encoding.

A range of units denser than ``DENSE``, or with more than ``ENTRIES``, is not kept: the product
that encodes it again is small for its number of entries.
"""

from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from interp.compiled import compiled
from interp.features.firing import Firing
from interp.sae.kernels.compiled import even, share

Array = NDArray[Any]

DENSE = 0.05
"""Share of non-zero activations above which units are encoded again rather than kept."""
ENTRIES = 16_000_000
"""Most entries kept of one range of units, 6 bytes each while rows stream by."""
LARGEST = 65504
"""The largest float16."""


def half(values: Float32[np.ndarray, " n"]) -> np.ndarray:
    """As float16, the largest where that is exceeded."""
    return np.minimum(values, LARGEST).astype(np.float16)


class Codes:
    """Activations by unit and row."""

    def __init__(self, units: int) -> None:
        """Start empty."""
        self._units, self._entries, self._cells = units, 0, 0
        self._blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._whole: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def add(self, rows: Int64[np.ndarray, " block"], firing: Firing) -> bool:
        """Keep a block's entries; False if there are too many."""
        self._entries += len(firing.values)
        self._cells += firing.rows * self._units
        if self._entries > min(ENTRIES, DENSE * self._cells):
            return False
        offsets = firing.offsets.astype(np.int32)
        self._blocks.append((offsets, rows[firing.places], half(firing.values)))
        return True

    def at(
        self, rows: Int64[np.ndarray, " n"], units: Int64[np.ndarray, " n"]
    ) -> Float32[np.ndarray, " n"]:
        """Activations of (row, unit) pairs."""
        if self._whole is None:
            self._whole = merged(self._blocks, self._units)
            self._blocks = []
        offsets, known, values = self._whole
        found = np.full(len(rows), -1, np.int64)
        share(_look_up, even(len(rows)), offsets, known, rows, units, found)
        out = np.zeros(len(rows), np.float32)
        out[found >= 0] = values[found[found >= 0]]
        return out


def merged(
    blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]], units: int
) -> tuple[Int64[np.ndarray, " offsets"], np.ndarray, np.ndarray]:
    """Lists by unit, then by row, of blocks that follow each other: offsets, rows and values.

    Args:
        blocks: offsets, rows and float16 values of each.
        units: how many there are.
    """
    offsets = np.zeros(units + 1, np.int64)
    for each, _, _ in blocks:
        offsets += each
    rows = np.empty(int(offsets[-1]), np.int64)
    values = np.empty(len(rows), np.uint16)
    at = offsets[:-1].copy()
    for each, part, some in blocks:
        _append(each, part, some.view(np.uint16), at, rows, values)
    return offsets, rows, values.view(np.float16)


@compiled
@no_type_check
def _append(
    offsets: Array, part: Array, some: Array, at: Array, rows: Array, values: Array
) -> None:
    """Put a block's entries behind those of earlier blocks."""
    for unit in range(len(offsets) - 1):
        to = at[unit]
        for e in range(offsets[unit], offsets[unit + 1]):
            rows[to], values[to] = part[e], some[e]
            to += 1
        at[unit] = to


@compiled
@no_type_check
def _look_up(
    first: int, last: int, offsets: Array, known: Array, rows: Array, units: Array, found: Array
) -> None:
    """Places of (row, unit) pairs by bisection, -1 where a unit is silent."""
    for i in range(first, last):
        low, high = offsets[units[i]], offsets[units[i] + 1]
        end = high
        while low < high:
            middle = (low + high) // 2
            if known[middle] < rows[i]:
                low = middle + 1
            else:
                high = middle
        if low < end and known[low] == rows[i]:
            found[i] = low
