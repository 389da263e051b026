"""All units of one site as columns: neurons beside latents beside controls, on one scale.

Filtering and sorting are NumPy over at most a few hundred thousand numbers; a page then shows 50.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from interp.errors import UnknownName
from interp.features.table import UnitTable

PAGE = 50


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which units are wanted. Bounds are inclusive; NaN never lies within bounds."""

    bases: tuple[str, ...] = ()
    """Only these bases; empty means all."""
    column: str = "monosemanticity"
    """The score that `least` and `most` bound."""
    least: float | None = None
    most: float | None = None
    density: tuple[float, float] = (0.0, 1.0)
    """Share of tokens on which the unit is active."""
    dead: bool = False
    """Whether dead units are shown."""
    words: str = ""
    """What the rule must contain, whatever the case."""


@dataclass(frozen=True)
class Listing:
    """The units of several bases of one model and site."""

    model: str
    """The model's folder, which is its name with ``/`` as ``+``."""
    site: str
    bases: tuple[str, ...]
    """Names in the order of `basis`."""
    basis: np.ndarray
    """Per unit, the number of its basis."""
    index: np.ndarray
    """Per unit, its index within the basis."""
    columns: dict[str, np.ndarray]
    """Per unit, every numeric column that any of the tables has; NaN where a table lacks it."""
    rules: list[str]
    """Per unit, its rule in words; empty where it has none."""

    @classmethod
    def of(cls, tables: Sequence[UnitTable]) -> "Listing":
        """Lay the tables of one site under each other."""
        names = sorted({name for table in tables for name in table.columns})
        columns: dict[str, np.ndarray] = {}
        for name in names:
            parts = [
                np.asarray(table.columns[name], dtype=np.float64)
                if name in table.columns
                else np.full(table.n_units, np.nan)
                for table in tables
            ]
            columns[name] = np.concatenate(parts)
        counts = [table.n_units for table in tables]
        return cls(
            model=tables[0].path.parts[-3],
            site=tables[0].path.parts[-2],
            bases=tuple(table.path.stem for table in tables),
            basis=np.repeat(np.arange(len(tables), dtype=np.int16), counts),
            index=np.concatenate([np.arange(count, dtype=np.int32) for count in counts]),
            columns=columns,
            rules=[rule for table in tables for rule in table.rules],
        )

    def __len__(self) -> int:
        return len(self.index)

    def column(self, name: str) -> np.ndarray:
        """A column by name.

        Raises:
            UnknownName: no table has it.
        """
        if name == "index":
            return self.index.astype(np.float64)
        if name not in self.columns:
            raise UnknownName("column", name, ["index", *self.columns])
        return self.columns[name]

    def select(self, wanted: Filter) -> np.ndarray:
        """Row numbers of the units that pass, ascending."""
        keep = np.ones(len(self), dtype=bool)
        if wanted.bases:
            numbers = [self.bases.index(name) for name in wanted.bases if name in self.bases]
            keep &= np.isin(self.basis, numbers)
        density = self.columns["density"]
        low, high = wanted.density
        keep &= ((density >= low) & (density <= high)) | (density == 0)
        if not wanted.dead:
            keep &= density > 0
        if wanted.least is not None:
            keep &= self.column(wanted.column) >= wanted.least
        if wanted.most is not None:
            keep &= self.column(wanted.column) <= wanted.most
        rows = np.flatnonzero(keep)
        if wanted.words:
            sought = wanted.words.casefold()
            rows = rows[[sought in self.rules[row].casefold() for row in rows]]
        return rows

    def sort(self, rows: np.ndarray, by: str, *, ascending: bool = False) -> np.ndarray:
        """The rows in order of a column; equal ones in table order, NaN last either way."""
        values = self.column(by)[rows]
        key = values if ascending else -values
        return rows[np.argsort(key, kind="stable")]  # NaN sorts last in both directions

    def address(self, row: int) -> str:
        """``model/site/basis/index`` of a row."""
        basis = self.bases[int(self.basis[row])]
        return f"{self.model}/{self.site}/{basis}/{int(self.index[row])}"
