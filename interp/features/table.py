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

A file may be damaged or foreign, so a dataset is read only if its link, type and shape are what
the attributes say.
"""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from jaxtyping import Float16, Float32, Int64

from interp.errors import DataError, FormatError, UnknownName
from interp.features.address import Address
from interp.features.meanings import Meaning, read_meaning
from interp.store.shard import LOCK

_H5: Any = h5py  # its type stubs lack half of what is used here

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
        self.path = path
        self.model = _text(attributes, "model")
        self.site = _text(attributes, "site")
        self.basis = _text(attributes, "basis")
        self.kind = _text(attributes, "kind")
        self.store = _text(attributes, "store")
        self.store_digest = _text(attributes, "store_digest")
        self.corpus = _text(attributes, "corpus")
        self.key = _text(attributes, "key")
        self.n_units = int(attributes["n_units"])
        self.rows = int(attributes["rows"])
        self.signed = bool(attributes["signed"])
        self.provenance = _json_object(attributes, "provenance")
        self.scores: dict[str, str] = _json_object(attributes, "scores")
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
        with _opened(file_path) as file:
            attributes = dict(file.attrs)
            if attributes.get("format") != FORMAT:
                raise FormatError(f"{file_path} is no unit table; `interp extract` makes one")
            if attributes.get("version") not in READABLE:
                raise FormatError(
                    f"{file_path} has version {attributes.get('version')}, this interp reads "
                    f"{VERSION}; update interp or run `interp extract` again"
                )
            try:
                return cls(file_path, attributes, file_path.stat().st_size)
            except (KeyError, TypeError, ValueError) as error:
                raise FormatError(_malformed(file_path, repr(error))) from error

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
        with _opened(self.path) as file:
            group = file.get("columns")
            if not isinstance(group, _H5.Group):
                raise FormatError(_malformed(self.path, "it has no columns"))
            return {
                str(name): self._dataset(file, f"columns/{name}", (self.n_units,))[...]
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
        with _opened(self.path) as file:
            counts = self._dataset(file, "histogram/counts", (self.n_units, len(edges) - 1))[unit]
        return counts, edges

    @cached_property
    def _edges(self) -> np.ndarray:
        with _opened(self.path) as file:
            return self._dataset(file, "histogram/edges", (None,))[...]

    # -- contexts -------------------------------------------------------------------------------

    @cached_property
    def _layout(self) -> tuple[list[str], int, int]:
        """Names of the strata, tokens before and after the peak."""
        with _opened(self.path) as file:
            try:
                attributes = file["contexts"].attrs
                names = [str(name) for name in json.loads(_text(attributes, "strata"))]
                return names, int(attributes["before"]), int(attributes["after"])
            except (KeyError, TypeError, ValueError) as error:
                raise FormatError(_malformed(self.path, repr(error))) from error

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
        with _opened(self.path) as file:
            rows = self._dataset(file, "contexts/row", shape)[unit]
            values = self._dataset(file, "contexts/value", shape)[unit]
            width = before + 1 + after
            windows = self._dataset(file, "contexts/window", (*shape, width))[unit]
        if rows.size and rows.max() >= self.rows:
            raise FormatError(_malformed(self.path, "a context lies outside its store"))
        return [
            Stratum(
                name,
                rows[i][rows[i] >= 0].astype(np.int64),
                values[i][rows[i] >= 0].astype(np.float32),
                windows[i][rows[i] >= 0].astype(np.float16),
            )
            for i, name in enumerate(names)
        ]

    # -- domains and logits ---------------------------------------------------------------------

    def domains(self, unit: int) -> dict[str, float]:
        """Share of a unit's activation mass that lies in each domain, largest first."""
        self.check(unit)
        with _opened(self.path) as file:
            group = file.get("domains")
            if group is None:
                return {}
            names = [str(name) for name in json.loads(_text(group.attrs, "names"))]
            share = self._dataset(file, "domains/share", (self.n_units, len(names)))[unit]
        order = np.argsort(-share, kind="stable")
        return {names[i]: float(share[i]) for i in order if share[i] > 0}

    @cached_property
    def has_logits(self) -> bool:
        """Whether promoted and suppressed tokens were computed."""
        with _opened(self.path) as file:
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
        with _opened(self.path) as file:
            if "rule" not in file:
                return None
            try:
                return read_meaning(
                    lambda group: file[group].attrs,
                    lambda name, shape: self._dataset(file, name, (self.n_units, *shape))[unit],
                )
            except (KeyError, TypeError, ValueError) as error:
                raise FormatError(_malformed(self.path, repr(error))) from error

    @cached_property
    def rules(self) -> list[str]:
        """The rule of every unit in words; all empty in tables that lack them."""
        with _opened(self.path) as file:
            if "rule" not in file:
                return [""] * self.n_units
            text = self._dataset(file, "rule/text", (self.n_units, None))[...]
        return [bytes(line).rstrip(b"\0").decode(errors="replace") for line in text]

    def _logits(self, unit: int, side: str) -> list[tuple[int, float]]:
        self.check(unit)
        if not self.has_logits:
            raise DataError(
                f"{self.path} has no logits: the site does not write to the residual stream, or "
                "the units were extracted without the model"
            )
        with _opened(self.path) as file:
            tokens = self._dataset(file, f"logits/{side}", (self.n_units, None))[unit]
            values = self._dataset(file, f"logits/{side}_value", (self.n_units, None))[unit]
        return [(int(t), float(v)) for t, v in zip(tokens, values, strict=True)]

    def _dataset(self, file: Any, name: str, shape: tuple[int | None, ...]) -> Any:
        """A dataset that is what it should be, or FormatError before anything is read."""
        parts = name.split("/")
        for end in range(1, len(parts) + 1):
            link = file.get("/".join(parts[:end]), getlink=True)
            if not isinstance(link, _H5.HardLink):
                raise FormatError(_malformed(self.path, f"{name} is missing or a link"))
        found = file[name]
        if not isinstance(found, _H5.Dataset) or found.dtype.kind not in "iufb":
            raise FormatError(_malformed(self.path, f"{name} is no plain array"))
        plan = found.id.get_create_plist()
        if plan.get_layout() != _H5.h5d.CONTIGUOUS or plan.get_external_count():
            raise FormatError(_malformed(self.path, f"{name} is not stored contiguously"))
        fits = len(found.shape) == len(shape) and all(
            want is None or want == have for want, have in zip(shape, found.shape, strict=True)
        )
        if not fits or found.size * found.dtype.itemsize > self.path.stat().st_size:
            raise FormatError(_malformed(self.path, f"{name} has shape {found.shape}"))
        return found


def _malformed(path: Path, why: str) -> str:
    return f"unit table {path} is malformed ({why}); delete it and run `interp extract` again"


def _text(attributes: Any, name: str) -> str:
    value = attributes[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def _json_object(attributes: Any, name: str) -> dict[str, Any]:
    value: object = json.loads(_text(attributes, name))
    if not isinstance(value, dict):
        raise TypeError(f"{name} is no JSON object")
    return cast(dict[str, Any], value)


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    with LOCK:
        try:
            file = _H5.File(path, "r", locking=False)
        except FileNotFoundError as error:
            raise FormatError(f"{path} does not exist; `interp extract` makes it") from error
        except OSError as error:
            raise FormatError(_malformed(path, "no readable HDF5 file")) from error
        with file:
            yield file
