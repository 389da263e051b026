"""What is known of each unit row by row: random rows where it is active, and where it is silent.

Active rows come from the priority sample of `interp.features.accumulate`: of a permutation of all
rows, the highest-ranked on which the unit is active. The same permutation gives the silent rows
for nothing. The store's highest-ranked rows are a random sample of all rows, the ``POOL``; a unit
is active on one of them if, and only if, its sample holds it, down to the lowest rank the sample
reaches. So every unit has its own silent rows without a second look at any activation.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from interp.store import ActivationStore

POOL = 1024
"""Random rows among which silent ones are found."""


@dataclass(frozen=True)
class Sample:
    """Rows of every unit of one basis."""

    rows: Int64[np.ndarray, "units kept"]
    """Random active rows, -1 where there is none."""
    ranks: Int64[np.ndarray, "units kept"]
    """Their ranks, highest first."""
    values: Float32[np.ndarray, "units kept"]
    """Activations there."""
    top_rows: Int64[np.ndarray, "units top"]
    """Strongest rows, strongest first, -1 where there is none."""
    top_values: Float32[np.ndarray, "units top"]
    """Activations there."""
    edges: Float[np.ndarray, "units 3"]
    """Values above which 1 %, 10 % and 50 % of active rows lie."""
    active: Int64[np.ndarray, " units"]
    """Active rows in all."""
    enough: Bool[np.ndarray, " units"]
    """Units active often enough to be scored."""

    def scored(self) -> list[int]:
        """The units to be scored, ascending."""
        return [int(unit) for unit in np.flatnonzero(self.enough)]

    def of(self, unit: int) -> tuple[np.ndarray, np.ndarray]:
        """Random active rows of one unit and its activations there."""
        known = self.rows[unit] >= 0
        return self.rows[unit][known], self.values[unit][known]


class Silent:
    """The random rows of a store on which a unit is not active."""

    def __init__(self, store: ActivationStore, ranks: Int64[np.ndarray, " rows"]) -> None:
        """Find the pool: the highest-ranked rows but attention sinks."""
        order = np.argsort(-ranks, kind="stable")
        order = order[~store.sinks[order]][:POOL]
        self.rows: Int64[np.ndarray, " pool"] = order
        self._ranks = ranks[order]
        self._place = np.full(store.rows, -1, np.int32)
        self._place[order] = np.arange(len(order))

    def of(self, sample: Sample, unit: int) -> Int64[np.ndarray, " n"]:
        """Places in `rows` of a unit's silent rows."""
        return np.flatnonzero(self.mask(sample, np.array([unit]))[0])

    def mask(
        self, sample: Sample, units: Int64[np.ndarray, " units"]
    ) -> Bool[np.ndarray, "units pool"]:
        """Which of `rows` are silent, for several units."""
        rows, known = sample.rows[units], sample.rows[units] >= 0
        lowest = np.where(known, sample.ranks[units], np.iinfo(np.int64).max).min(axis=1)
        full = sample.active[units] > known.sum(axis=1)  # it knows nothing below its lowest rank
        silent = ~full[:, None] | (self._ranks > lowest[:, None])
        places = np.where(known, self._place[rows], -1)
        unit, column = np.nonzero(places >= 0)
        silent[unit, places[unit, column]] = False
        return silent
