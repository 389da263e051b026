"""Reading a unit table: everything measured about the units of one basis. No torch.

`<workspace>/units/<model>/<site>/<basis>.h5`, plain contiguous HDF5:

    attributes      format, version, model, site, basis, kind, signed, n_units, rows, store,
                    store_digest, corpus, key, provenance (JSON), scores (JSON: name to definition)
    columns/<name>  [units], float32 or an integer or 0/1 type
    histogram/      counts uint32 [units, bins], edges float32 [bins + 1]
    contexts/       row int64 [units, strata, K] (-1 = none), value float32 [units, strata, K],
                    window float16 [units, strata, K, before + 1 + after];
                    attributes strata (JSON names), before, after
    domains/        share float32 [units, domains], attribute names (JSON)
    logits/         promoted, suppressed int32 [units, 10], promoted_value, suppressed_value
                    float16; absent where the site does not write to the residual stream
    languages/, tokens/, purity/, rule/, senses/
                    see `interp.features.meanings`; absent in tables of version 1

A file may be damaged or foreign, see `interp.features.guarded`.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float16, Float32, Int64

from interp.errors import DataError, FormatError, UnknownName
from interp.features.address import Address
from interp.features.guarded import Guarded, json_object, text
from interp.features.meanings import Meaning, read_meaning

FORMAT, VERSION = "interp-unit-table", 2
READABLE = (1, 2)
"""Version 1 has fewer columns and says nothing about meanings; all else is the same."""
SORTED_BY = "monosemanticity"
"""The column units are sorted by unless another is asked for."""


@dataclass(frozen=True)
class Stratum:
    """The contexts of one part of a unit's active range, strongest first."""

    name: str
    """Such as ``top`` or ``1-10 %``, counted from the strongest active token."""
    rows: Int64[np.ndarray, " n"]
    """Row of the peak in the store."""
    values: Float32[np.ndarray, " n"]
    """Activation at the peak."""
    windows: Float16[np.ndarray, "n window"]
    """Activations around the peak, 0 beyond the document; the peak is at ``before``."""


class UnitTable:
    """A finished unit table, read-only. Columns are read at first use, contexts unit by unit."""

    def __init__(self, path: Path, attributes: dict[str, Any], size: int) -> None:
        """Use `open`."""
        self.path, self._file = path, _guarded(path)
        self.model = text(attributes, "model")
        self.site = text(attributes, "site")
        self.basis = text(attributes, "basis")
        self.kind = text(attributes, "kind")
        self.store = text(attributes, "store")
        self.store_digest = text(attributes, "store_digest")
        self.corpus = text(attributes, "corpus")
        self.key = text(attributes, "key")
        self.n_units = int(attributes["n_units"])
        self.rows = int(attributes["rows"])
        self.signed = bool(attributes["signed"])
        self.provenance = json_object(attributes, "provenance")
        self.scores: dict[str, str] = json_object(attributes, "scores")
        # Each unit owns bytes of several columns: a count beyond the file's size is a lie.
        if not 0 < self.n_units <= size or self.rows < 0:
            raise ValueError(f"{self.n_units} units, {self.rows} rows")

    @classmethod
    def open(cls, path: str | Path) -> "UnitTable":
        """Open a unit table; reads its attributes only.

        Raises:
            FormatError: the file is missing, malformed, foreign or newer.
        """
        file_path = Path(path)
        opening = _guarded(file_path)
        with opening.opened() as file:
            attributes = dict(file.attrs)
            if attributes.get("format") != FORMAT:
                raise FormatError(f"{file_path} is no unit table; `interp extract` makes one")
            if attributes.get("version") not in READABLE:
                raise FormatError(
                    f"{file_path} has version {attributes.get('version')}, this interp reads "
                    f"{VERSION}; update interp or run `interp extract` again"
                )
            try:
                return cls(file_path, attributes, file.id.get_filesize())
            except (KeyError, TypeError, ValueError) as error:
                raise opening.malformed(repr(error)) from error

    def __repr__(self) -> str:
        where = f"{self.model}/{self.site}/{self.basis}"
        return f"UnitTable({where}: {self.n_units:,} units over {self.rows:,} rows of {self.store})"

    def address(self, unit: int) -> Address:
        """The address of a unit."""
        return Address(self.model, self.site, self.basis, self.check(unit))

    def unit_name(self, unit: int) -> str:
        """What a unit is called within its basis: ``12+`` is the positive side of neuron 12."""
        return f"{unit // 2}{'+-'[unit % 2]}" if self.signed else str(unit)

    def check(self, unit: int) -> int:
        """The index itself, if the table has such a unit.

        Raises:
            FormatError: it has not.
        """
        if not 0 <= unit < self.n_units:
            raise FormatError(
                f"{self.model}/{self.site}/{self.basis} has units 0 to {self.n_units - 1}, "
                f"not {unit}; choose one of them"
            )
        return unit

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """Every measured column, ``[units]`` each, NaN where a unit has no value."""
        with self._file.opened() as file:
            group = file.get("columns")
            if not isinstance(group, h5py.Group):
                raise self._file.malformed("it has no columns")
            return {
                str(name): self._file.dataset(file, f"columns/{name}", (self.n_units,))[...]
                for name in sorted(group)
            }

    def column(self, name: str) -> np.ndarray:
        """One column by name.

        Raises:
            UnknownName: the table has no such column.
        """
        if name not in self.columns:
            raise UnknownName("column", name, self.columns)
        return self.columns[name]

    def histogram(self, unit: int) -> tuple[np.ndarray, np.ndarray]:
        """Counts ``[bins]`` of a unit's active tokens and the bins' edges ``[bins + 1]``."""
        self.check(unit)
        edges = self._edges
        with self._file.opened() as file:
            shape = (self.n_units, len(edges) - 1)
            counts = self._file.dataset(file, "histogram/counts", shape)[unit]
        return counts, edges

    @cached_property
    def _edges(self) -> np.ndarray:
        with self._file.opened() as file:
            return self._file.dataset(file, "histogram/edges", (None,))[...]

    # -- contexts -------------------------------------------------------------------------------

    @cached_property
    def _layout(self) -> tuple[list[str], int, int]:
        """Names of the strata, tokens before and after the peak."""
        with self._file.opened() as file:
            try:
                attributes = file["contexts"].attrs
                names = [str(name) for name in json.loads(text(attributes, "strata"))]
                return names, int(attributes["before"]), int(attributes["after"])
            except (KeyError, TypeError, ValueError) as error:
                raise self._file.malformed(repr(error)) from error

    @property
    def strata(self) -> list[str]:
        """Names of the strata, strongest first."""
        return self._layout[0]

    @property
    def before(self) -> int:
        """Tokens of a window before its peak."""
        return self._layout[1]

    @property
    def after(self) -> int:
        """Tokens of a window after its peak."""
        return self._layout[2]

    def contexts(self, unit: int) -> list[Stratum]:
        """The contexts of a unit, stratum by stratum; a stratum may be empty.

        Raises:
            FormatError: no such unit, or the file is malformed.
        """
        self.check(unit)
        names, before, after = self._layout
        shape = (self.n_units, len(names), None)
        with self._file.opened() as file:
            rows = self._file.dataset(file, "contexts/row", shape)[unit]
            values = self._file.dataset(file, "contexts/value", shape)[unit]
            width = before + 1 + after
            windows = self._file.dataset(file, "contexts/window", (*shape, width))[unit]
        if rows.size and rows.max() >= self.rows:
            raise self._file.malformed("a context lies outside its store")
        return [
            Stratum(
                name,
                rows[i][rows[i] >= 0].astype(np.int64),
                values[i][rows[i] >= 0].astype(np.float32),
                windows[i][rows[i] >= 0].astype(np.float16),
            )
            for i, name in enumerate(names)
        ]

    def peaks(self, stratum: int = 0) -> Int64[np.ndarray, "units k"]:
        """Rows of the store at the peaks of every unit's contexts of one stratum; -1 is none.

        Raises:
            FormatError: the file is malformed.
        """
        shape = (self.n_units, len(self.strata), None)
        with self._file.opened() as file:
            rows = self._file.dataset(file, "contexts/row", shape)[:, stratum]
        if rows.size and rows.max() >= self.rows:
            raise self._file.malformed("a context lies outside its store")
        return rows.astype(np.int64)

    # -- domains and logits ---------------------------------------------------------------------

    def domains(self, unit: int) -> dict[str, float]:
        """Share of a unit's activation mass that lies in each domain, largest first."""
        self.check(unit)
        with self._file.opened() as file:
            group = file.get("domains")
            if group is None:
                return {}
            names = [str(name) for name in json.loads(text(group.attrs, "names"))]
            share = self._file.dataset(file, "domains/share", (self.n_units, len(names)))[unit]
        order = np.argsort(-share, kind="stable")
        return {names[i]: float(share[i]) for i in order if share[i] > 0}

    @cached_property
    def has_logits(self) -> bool:
        """Whether promoted and suppressed tokens were computed."""
        with self._file.opened() as file:
            return "logits" in file

    def promoted(self, unit: int) -> list[tuple[int, float]]:
        """Tokens that the unit's direction makes most likely, with their logit effect."""
        return self._logits(unit, "promoted")

    def suppressed(self, unit: int) -> list[tuple[int, float]]:
        """Tokens that the unit's direction makes least likely, with their logit effect."""
        return self._logits(unit, "suppressed")

    def meaning(self, unit: int) -> Meaning | None:
        """Rule, tokens, languages, purity and senses of a unit; None in tables that lack them.

        Raises:
            FormatError: no such unit, or the file is malformed.
        """
        self.check(unit)
        with self._file.opened() as file:
            if "rule" not in file:
                return None
            try:
                return read_meaning(
                    lambda group: file[group].attrs,
                    lambda name, rest: self._file.dataset(file, name, (self.n_units, *rest))[unit],
                )
            except (KeyError, TypeError, ValueError) as error:
                raise self._file.malformed(repr(error)) from error

    @cached_property
    def rules(self) -> list[str]:
        """The rule of every unit in words; all empty in tables that lack them."""
        with self._file.opened() as file:
            if "rule" not in file:
                return [""] * self.n_units
            lines = self._file.dataset(file, "rule/text", (self.n_units, None))[...]
        return [bytes(line).rstrip(b"\0").decode(errors="replace") for line in lines]

    def _logits(self, unit: int, side: str) -> list[tuple[int, float]]:
        self.check(unit)
        if not self.has_logits:
            raise DataError(
                f"{self.path} has no logits: the site does not write to the residual stream, or "
                "the units were extracted without the model"
            )
        with self._file.opened() as file:
            tokens = self._file.dataset(file, f"logits/{side}", (self.n_units, None))[unit]
            values = self._file.dataset(file, f"logits/{side}_value", (self.n_units, None))[unit]
        return [(int(t), float(v)) for t, v in zip(tokens, values, strict=True)]


def _guarded(path: Path) -> Guarded:
    return Guarded(path, "unit table", "`interp extract`")
