"""The entries with the largest keys of every unit, kept while rows stream by.

Used twice: with the activation as key for a unit's strongest rows, and with a random rank as key
for a uniform sample of its active rows (priority sampling).
"""

from typing import Any, no_type_check

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from interp.compiled import compiled
from interp.features.firing import Firing
from interp.sae.kernels.compiled import balanced, share

Array = NDArray[Any]


class Best:
    """Per unit, the entries with the largest keys; on equal keys the row seen first."""

    def __init__(self, units: int, keep: int) -> None:
        """Keep up to ``keep`` entries for each unit."""
        self.units, self.keep = units, keep
        room = (units, 2 * keep)
        self._rows, self._keys = np.zeros(room, np.int64), np.zeros(room, np.int64)
        self._values = np.zeros(room, np.float32)
        self._filled = np.zeros(units, np.int64)
        self._least = np.full(units, -1, np.int64)

    def offer(
        self,
        rows: Int64[np.ndarray, " block"],
        keys: Int64[np.ndarray, " block"] | None,
        firing: Firing,
    ) -> None:
        """Offer a block's entries, later blocks with higher rows.

        Args:
            rows: number of each row of the block.
            keys: each row's key, at least 0; by default an entry's activation is its key.
            firing: the entries.
        """
        given = np.empty(0, np.int64) if keys is None else keys
        bits = firing.values.view(np.int32)  # in the order of the values: none is below 0
        share(
            _offer, balanced(firing.offsets), self.keep, rows, given, firing.offsets,
            firing.places, firing.values, bits, self._rows, self._keys, self._values,
            self._filled, self._least,
        )  # fmt: skip

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows (-1 = none), keys and values ``[units, keep]``, largest key first."""
        for unit in range(self.units):
            _compact(
                unit, self.keep, self._rows, self._keys, self._values, self._filled, self._least
            )
        shape = (self.units, self.keep)
        there = np.arange(self.keep) < self._filled[:, None]
        rows = np.where(there, self._rows[:, : self.keep], -1)
        keys = np.where(there, self._keys[:, : self.keep], 0)
        values = np.where(there, self._values[:, : self.keep], np.float32(0))
        assert rows.shape == shape
        return rows, keys, values


@compiled
@no_type_check
def _compact(
    unit: int, keep: int, rows: Array, keys: Array, values: Array, filled: Array, least: Array
) -> None:
    """Sort a unit's entries, largest key first, and forget all but ``keep``."""
    count = filled[unit]
    order = np.argsort(-keys[unit, :count], kind="mergesort")[:keep]
    rows[unit, : len(order)] = rows[unit, :count][order]
    keys[unit, : len(order)] = keys[unit, :count][order]
    values[unit, : len(order)] = values[unit, :count][order]
    filled[unit] = len(order)
    if len(order) == keep:
        least[unit] = keys[unit, keep - 1]


@compiled
@no_type_check
def _offer(
    first: int,
    last: int,
    keep: int,
    block: Array,
    given: Array,
    offsets: Array,
    places: Array,
    activations: Array,
    bits: Array,
    rows: Array,
    keys: Array,
    values: Array,
    filled: Array,
    least: Array,
) -> None:
    """Entries of units ``first`` to ``last``; a unit's list is cut when it is full."""
    for unit in range(first, last):
        for e in range(offsets[unit], offsets[unit + 1]):
            key = given[places[e]] if len(given) else np.int64(bits[e])
            if key <= least[unit]:
                continue
            at = filled[unit]
            rows[unit, at], keys[unit, at] = block[places[e]], key
            values[unit, at] = activations[e]
            filled[unit] = at + 1
            if at + 1 == 2 * keep:
                _compact(unit, keep, rows, keys, values, filled, least)
