"""Units of several bases side by side: sorted, listed, summed up. No torch."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interp.errors import FormatError, UnknownName
from interp.features.address import Address
from interp.features.table import SORTED_BY, UnitTable
from interp.workspace import Workspace

SHOWN = (
    "density",
    "monosemanticity",
    "monoscore_z",
    "senses_effective",
    "token_purity",
    "rule_auroc",
    "abstractness",
    "max",
)


class Units:
    """Units of one or more tables in some order; prints as a table of text.

    >>> units.sort("density", ascending=True).head(5)  # doctest: +SKIP
    """

    def __init__(
        self, tables: Sequence[UnitTable], order: np.ndarray | None = None, by: str = ""
    ) -> None:
        """All units of the tables, or those of ``order`` (numbers through all tables)."""
        self.tables = list(tables)
        self._starts = np.cumsum([0, *(table.n_units for table in self.tables)])
        self._order = np.arange(int(self._starts[-1])) if order is None else order
        self._by = by

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Address]:
        for number in self._order:
            table, unit = self._find(int(number))
            yield table.address(unit)

    def table(self, basis: str) -> UnitTable:
        """The table of one basis.

        Raises:
            UnknownName: there is none.
        """
        for table in self.tables:
            if table.basis == basis:
                return table
        raise UnknownName("basis", basis, [table.basis for table in self.tables])

    def column(self, name: str) -> np.ndarray:
        """A column over these units in their order, NaN where a table lacks it.

        Raises:
            UnknownName: no table has it.
        """
        known = {column for table in self.tables for column in table.columns}
        if name not in known:
            raise UnknownName("column", name, known)
        parts = [
            np.asarray(table.columns.get(name, np.full(table.n_units, np.nan)), dtype=np.float64)
            for table in self.tables
        ]
        return np.concatenate(parts)[self._order]

    def sort(self, column: str = SORTED_BY, ascending: bool = False) -> "Units":
        """The same units in order of a column, NaN last either way, ties as they were.

        Raises:
            UnknownName: no table has the column.
        """
        values = self.column(column)
        order = np.argsort(values if ascending else -values, kind="stable")
        return Units(self.tables, self._order[order], column)

    def head(self, n: int = 20) -> "Units":
        """The first ``n`` units."""
        return Units(self.tables, self._order[: max(n, 0)], self._by)

    def rows(self, n: int | None = None) -> list[dict[str, Any]]:
        """The first ``n`` units as dictionaries: address, main columns, flags, and rule."""
        chosen = self._order if n is None else self._order[: max(n, 0)]
        shown = [*SHOWN, *([self._by] if self._by and self._by not in SHOWN else [])]
        found: list[dict[str, Any]] = []
        for number in chosen:
            table, unit = self._find(int(number))
            row: dict[str, Any] = {"address": str(table.address(unit))}
            for name in shown:
                if name in table.columns:
                    row[name] = _number(table.columns[name][unit])
            flags = [f for f in ("dead", "rare") if f in table.columns and table.columns[f][unit]]
            row["flags"] = " ".join(flags)
            meaning = table.meaning(unit)
            if meaning is not None:
                row["rule"] = meaning.rule
            found.append(row)
        return found

    def summary(self) -> list[dict[str, Any]]:
        """One dictionary a basis: how many units, how many dead or rare, medians of the others."""
        return [_summary(table) for table in self.tables]

    def __repr__(self) -> str:
        rows = self.rows(50)
        if not rows:
            return "Units(none)"
        names = list(dict.fromkeys(name for row in rows for name in row))
        cells = [names, *([_text(row.get(name)) for name in names] for row in rows)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
        lines = [
            "  ".join(
                cell.ljust(width) if i in (0, len(names) - 1) else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in cells
        ]
        more = len(self) - len(rows)
        return "\n".join(lines + ([f"... and {more:,} more"] if more else []))

    def _find(self, number: int) -> tuple[UnitTable, int]:
        index = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self.tables[index], number - int(self._starts[index])


def open_units(
    workspace: Workspace | str | Path, model: str, site: str, basis: str | None = None
) -> Units:
    """The units of a site that were extracted before.

    Args:
        workspace: the workspace or its folder.
        model: the model's name.
        site: the site's short name.
        basis: one basis only.

    Raises:
        UnknownName: the workspace has no such table.
        FormatError: a table asked for cannot be read.
    """
    space = workspace if isinstance(workspace, Workspace) else Workspace.at(workspace)
    folder = space.units(model, site, "x").parent
    names = [path.name.removesuffix(".h5") for path in sorted(folder.glob("*.h5"))]
    wanted = names if basis is None else [basis]
    if not wanted or any(name not in names for name in wanted):
        remedy = f"`interp extract {model} {site}` measures a site's units."
        known = [
            "/".join(path.relative_to(space.root / "units").parts).removesuffix(".h5")
            for path in sorted((space.root / "units").glob("*/*/*.h5"))
        ]
        raise UnknownName("unit table", f"{model}/{site}/{basis or ''}".rstrip("/"), known, remedy)
    return Units([UnitTable.open(space.units(model, site, name)) for name in wanted])


def _summary(table: UnitTable) -> dict[str, Any]:
    columns = table.columns
    missing = [name for name in ("dead", "rare", "density", SORTED_BY) if name not in columns]
    if missing:
        raise FormatError(f"{table.path} lacks the column {missing[0]}; run `interp extract` again")
    alive = columns["dead"] == 0
    score = columns[SORTED_BY][np.isfinite(columns[SORTED_BY])]
    return {
        "basis": table.basis,
        "units": table.n_units,
        "dead": int((columns["dead"] != 0).sum()),
        "rare": int((columns["rare"] != 0).sum()),
        "median density": float(np.median(columns["density"][alive])) if alive.any() else None,
        f"median {SORTED_BY}": float(np.median(score)) if len(score) else None,
    }


def _number(value: Any) -> float | int | None:
    number = value.item()
    return None if isinstance(number, float) and not np.isfinite(number) else number


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
