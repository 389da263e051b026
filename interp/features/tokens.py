"""Which tokens a unit's activation lies on: activation mass by token, in bounded memory.

Activations are added up per (token, unit). As long as units × tokens that occur stays below
``CELLS`` that is a matrix and exact. Beyond it, the pairs are kept as a list, and whenever the
list is too long only the ``KEPT`` heaviest tokens of each unit survive; what is cut off still
counts in the unit's total. Sparse units lose nothing that way. The share of mass kept is reported.

Token entropy -Σ p log₂ p over that mass measures **abstractness** (Heap et al. 2025, 2501.17727),
not monosemanticity: a unit for one word has none, one for a topic has much. It is a second axis.
"""

from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from interp.compiled import compiled
from interp.features.firing import Firing
from interp.sae.kernels.compiled import balanced, even, share

Array = NDArray[Any]

CELLS = 1 << 26
"""Cells of the exact matrix at most (float32: 256 MiB a basis)."""
KEPT = 128
"""Tokens a unit keeps when the list is cut."""
TOP = 10
"""Tokens stored per unit."""

SCORES = {
    "abstractness": "entropy in bits of activation mass over tokens; 0 is one token only; a second "
    "axis, not monosemanticity",
    "token_share": "share of activation mass on the heaviest token",
    "token_kept": "share of activation mass whose token is known; below 1, abstractness is a lower "
    "bound",
}


class TokenMass:
    """Activation of every unit by token."""

    def __init__(self, units: int, tokens: Int64[np.ndarray, " kinds"]) -> None:
        """Start at zero; ``tokens`` are the ids that occur, ascending."""
        self._units, self._tokens = units, tokens
        self._total = np.zeros(units)
        exact = units * len(tokens) <= CELLS
        self._matrix = np.zeros((units, len(tokens)), np.float32) if exact else None
        self._keys: list[np.ndarray] = []
        self._values: list[np.ndarray] = []
        self._waiting = 0

    def add(self, tokens: Int64[np.ndarray, " n"], firing: Firing) -> None:
        """Take a block of rows: each one's token id and activations."""
        kinds = np.searchsorted(self._tokens, tokens)
        if self._matrix is not None:
            share(
                _add_up, balanced(firing.offsets), firing.offsets, firing.places, firing.values,
                kinds, self._total, self._matrix,
            )  # fmt: skip
            return
        unit = np.repeat(np.arange(self._units), np.diff(firing.offsets))
        values = firing.values.astype(np.float64)
        self._total += np.bincount(unit, values, minlength=self._units)
        self._keys.append(unit * len(self._tokens) + kinds[firing.places])
        self._values.append(values)
        self._waiting += len(unit)
        if self._waiting > max(4 * self._units * KEPT, 1 << 22):
            self._cut()

    def result(
        self,
    ) -> tuple[
        Int64[np.ndarray, "units top"], Float32[np.ndarray, "units top"], dict[str, np.ndarray]
    ]:
        """Heaviest tokens (-1 = none), their shares of the mass, and the columns of `SCORES`."""
        offsets, kinds, masses = self._lists()
        heaviest = np.full((self._units, TOP), -1, np.int64)
        mass = np.zeros((self._units, TOP))
        entropy, kept = np.zeros(self._units), np.zeros(self._units)
        share(
            _sum_up, even(self._units), offsets, kinds, masses, self._total,
            heaviest, mass, entropy, kept,
        )  # fmt: skip
        ids = np.where(heaviest >= 0, self._tokens[np.maximum(heaviest, 0)], -1)
        alive, safe = self._total > 0, np.maximum(self._total, 1e-300)
        columns = {
            "abstractness": np.where(alive, entropy, np.nan),
            "token_share": np.where(alive, mass[:, 0] / safe, np.nan),
            "token_kept": np.where(alive, np.minimum(kept / safe, 1), np.nan),
        }
        return ids, (mass / safe[:, None]).astype(np.float32), columns

    def _lists(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where each unit's list begins; tokens (as places among those that occur) and masses."""
        if self._matrix is not None:
            filled = np.count_nonzero(self._matrix, axis=1)
            units, kinds = self._matrix.nonzero()
            masses = self._matrix[units, kinds].astype(np.float64)
            return np.concatenate([[0], np.cumsum(filled)]), kinds, masses
        self._cut()
        keys = self._keys[0]
        edges = np.searchsorted(keys, np.arange(self._units + 1) * len(self._tokens))
        return edges, keys % len(self._tokens), self._values[0]

    def _cut(self) -> None:
        """Add up equal pairs, then keep each unit's heaviest; ordered by (unit, token)."""
        if not self._keys:
            self._keys, self._values = [np.zeros(0, np.int64)], [np.zeros(0)]
        keys, place = np.unique(np.concatenate(self._keys), return_inverse=True)
        values = np.bincount(place, np.concatenate(self._values), minlength=len(keys))
        edges = np.searchsorted(keys, np.arange(self._units + 1) * len(self._tokens))
        keep = np.ones(len(keys), dtype=bool)
        for unit in np.flatnonzero(np.diff(edges) > KEPT):
            own = slice(edges[unit], edges[unit + 1])
            keep[own][np.argsort(-values[own], kind="stable")[KEPT:]] = False
        self._keys, self._values = [keys[keep]], [values[keep]]
        self._waiting = int(keep.sum())


@compiled
@no_type_check
def _add_up(
    first: int,
    last: int,
    offsets: Array,
    places: Array,
    values: Array,
    kinds: Array,
    total: Array,
    matrix: Array,
) -> None:
    """Entries of units ``first`` to ``last``, each to the token of its row."""
    for unit in range(first, last):
        for e in range(offsets[unit], offsets[unit + 1]):
            total[unit] += values[e]
            matrix[unit, kinds[places[e]]] += values[e]


@compiled
@no_type_check
def _sum_up(
    first: int,
    last: int,
    offsets: Array,
    kinds: Array,
    masses: Array,
    total: Array,
    heaviest: Array,
    mass: Array,
    entropy: Array,
    kept: Array,
) -> None:
    """The heaviest tokens of units ``first`` to ``last``, the entropy in bits, the mass known.

    What was cut off counts as one token more.
    """
    for unit in range(first, last):
        low, high = offsets[unit], offsets[unit + 1]
        order = np.argsort(-masses[low:high], kind="mergesort")
        for rank in range(min(len(order), heaviest.shape[1])):
            heaviest[unit, rank] = kinds[low + order[rank]]
            mass[unit, rank] = masses[low + order[rank]]
        known = masses[low:high].sum()
        kept[unit] = known
        rest = max(total[unit] - known, 0.0)
        whole = known + rest
        for e in range(low, high):
            if masses[e] > 0:
                p = masses[e] / whole
                entropy[unit] -= p * np.log2(p)
        if rest > 0:
            entropy[unit] -= rest / whole * np.log2(rest / whole)
