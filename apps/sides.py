"""The two sides of a comparison: what can be chosen, what is known of it, and how both match."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from apps import _cache, matching
from apps.inventory import Item
from apps.matching import Matching
from apps.theme import is_control
from interp.errors import FormatError, InterpError
from interp.features.table import UnitTable
from interp.workspace import Workspace

Way = Literal["directions", "strongest contexts"]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One basis of a comparison."""

    name: str
    """``model/site/basis``."""
    table: UnitTable | None
    """Its units, if they were measured."""
    folder: Path | None
    """Its dictionary's folder, if it is a finished dictionary."""
    figures: Mapping[str, object]
    """What was measured of the dictionary on held-out rows."""

    @property
    def place(self) -> str:
        """``model/site``."""
        return self.name.rpartition("/")[0]

    def column(self, name: str) -> np.ndarray | None:
        """The finite values of a score over its units, or None without any."""
        if self.table is None or name not in self.table.columns:
            return None
        values = np.asarray(self.table.columns[name], dtype=np.float64)
        finite = values[np.isfinite(values)]
        return finite if len(finite) else None

    def dead(self, count: int) -> np.ndarray:
        """Per unit, whether it never fired; all False where nobody looked."""
        if self.table is None or self.table.n_units != count:
            return np.zeros(count, bool)
        return self.table.columns["density"] == 0

    def rule(self, unit: int) -> str:
        """What a unit fires on in words, if known."""
        known = self.table is not None and unit < self.table.n_units
        return self.table.rules[unit] if known and self.table is not None else ""


def choices(tables: list[Item], dictionaries: list[Item]) -> list[str]:
    """What can be compared: every readable table and finished dictionary but controls."""
    ready = [item.name for item in [*dictionaries, *tables] if item.state == "ready"]
    return sorted({name for name in ready if not is_control(name.rpartition("/")[2])})


def partner(name: str, names: list[str]) -> str:
    """What to set beside a basis unless something is asked for: a dictionary of the same site."""
    place, _, basis = name.rpartition("/")
    others = [each for each in names if each != name]
    near = [each for each in others if each.startswith(f"{place}/")]
    learned = [each for each in near if not each.endswith("/neurons")]
    same = [each for each in others if each.endswith(f"/{basis}")]
    return next(iter([*learned, *near, *same, *others]), name)


def side(workspace: Workspace, name: str, dictionaries: list[Item]) -> Side:
    """A basis by its name.

    Raises:
        FormatError: its table is damaged.
    """
    path = workspace.units(*name.split("/"))
    item = next((each for each in dictionaries if each.name == name), None)
    ready = item is not None and item.state == "ready"
    return Side(
        name=name,
        table=_cache.table(path) if path.is_file() else None,
        folder=item.path if ready and item is not None else None,
        figures=item.facts if ready and item is not None else {},
    )


def ways(workspace: Workspace, one: Side, other: Side) -> tuple[list[Way], str]:
    """How two sides can be matched, the best way first; if in none, why."""
    found: list[Way] = []
    why = "the units of both must be measured: `interp extract`"
    if one.folder and other.folder:
        try:
            if matching.place(one.folder) == matching.place(other.folder):
                found.append("directions")
        except FormatError as error:
            why = str(error)
    if one.table and other.table:
        try:
            stores = [_cache.store(workspace.store(each.table.store)) for each in (one, other)
                      if each.table]  # fmt: skip
            if matching.same_rows(*stores):
                found.append("strongest contexts")
            else:
                why = (
                    f"{one.table.store} and {other.table.store} hold different texts; capture both "
                    "models on the same corpus, with the same settings"
                )
        except InterpError as error:
            why = str(error)
    return found, why


def matched(one: Side, other: Side, way: Way) -> Matching:
    """Both sides matched.

    Raises:
        ConfigError: they are too large, or do not compare.
        FormatError: a file is damaged.
    """
    if way == "directions" and one.folder and other.folder:
        return _cache.matching((one.folder, other.folder), by_contexts=False)
    assert one.table is not None  # `ways` has seen to it
    assert other.table is not None
    return _cache.matching((one.table.path, other.table.path), by_contexts=True)
