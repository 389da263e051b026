"""Every activation of a sparse basis over a whole store, for exact lookup. No torch.

`<basis>.activations.hdf5` beside a unit table is a sparse matrix in compressed rows, a unit a row:

    attributes      format, version, model, site, basis, signed, n_units, rows, store,
                    store_digest, key (that of the unit table)
    offsets         int64 [units + 1]: unit u owns entries offsets[u] up to offsets[u + 1]
    row             uint32 [entries] (int64 in a store of 2³² rows): rows of the store, ascending
    value           float16 [entries], cut to its largest

`scipy.sparse.csr_array((value, row, offsets), shape=(n_units, rows))` is that matrix, once value is
float32. Attention sinks are left out, as from everything else that is measured.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float16, Int64

from interp.errors import FormatError
from interp.features.guarded import Guarded, text
from interp.files import replacing
from interp.store.shard import LOCK

_H5: Any = h5py  # its type stubs lack half of what is used here

FORMAT, VERSION = "interp-unit-activations", 1
NAMES = ("model", "site", "basis", "store", "store_digest", "key")
CHUNK = 4_000_000
"""Entries in memory at a time."""


def activations_path(table: Path) -> Path:
    """Where the activations that belong to a unit table lie."""
    return table.with_name(f"{table.name.removesuffix('.h5')}.activations.hdf5")


class UnitActivations:
    """The activations of one basis, read unit by unit."""

    def __init__(self, path: Path, attributes: dict[str, Any]) -> None:
        """Use `open`."""
        self.path, self._file = path, _guarded(path)
        self.model, self.site, self.basis, self.store, self.store_digest, self.key = (
            text(attributes, name) for name in NAMES
        )
        self.n_units, self.rows = int(attributes["n_units"]), int(attributes["rows"])

    @classmethod
    def open(cls, path: str | Path) -> "UnitActivations":
        """Open a file; reads its attributes only.

        Raises:
            FormatError: the file is missing, malformed, foreign or newer.
        """
        guarded = _guarded(Path(path))
        with guarded.opened() as file:
            attributes = dict(file.attrs)
            if attributes.get("format") != FORMAT or attributes.get("version") != VERSION:
                raise guarded.malformed("another format or version")
            try:
                found = cls(guarded.path, attributes)
            except (KeyError, TypeError, ValueError) as error:
                raise guarded.malformed(repr(error)) from error
            if not 0 < found.n_units < file.id.get_filesize() or found.rows < 0:
                raise guarded.malformed(f"{found.n_units} units")
            return found

    def of(
        self, unit: int
    ) -> tuple[Int64[np.ndarray, " entries"], Float16[np.ndarray, " entries"]]:
        """Every row on which a unit is active, ascending, and its activations there.

        Raises:
            FormatError: no such unit, or the file is malformed.
        """
        if not 0 <= unit < self.n_units:
            raise FormatError(
                f"{self.model}/{self.site}/{self.basis} has units 0 to {self.n_units - 1}, "
                f"not {unit}; choose one of them"
            )
        with self._file.opened() as file:
            offsets = self._file.dataset(file, "offsets", (self.n_units + 1,))
            low, high = (int(each) for each in offsets[unit : unit + 2])
            row, value = (self._file.dataset(file, name, (None,)) for name in ("row", "value"))
            if not 0 <= low <= high <= len(row) or len(row) != len(value):
                raise self._file.malformed(f"unit {unit} owns entries {low} to {high}")
            rows, values = row[low:high].astype(np.int64), value[low:high].astype(np.float16)
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.rows):
            raise self._file.malformed("a row lies outside its store")
        return rows, values


def join_activations(path: Path, parts: Sequence[Path]) -> None:
    """Write one file of the units of several, in their order; at once."""
    if len(parts) == 1:
        parts[0].replace(path)
        return
    with LOCK, replacing(path) as partial, _H5.File(partial, "w", libver="v110") as out:
        total, units = 0, 0
        for part in parts:
            with _H5.File(part, "r", locking=False) as file:
                total, units = total + len(file["row"]), units + file.attrs["n_units"]
        offsets = np.zeros(units + 1, np.int64)
        at = unit = 0
        for part in parts:
            with _H5.File(part, "r", locking=False) as file:
                if not at:
                    out.attrs.update(dict(file.attrs))
                    out.attrs["n_units"] = units
                    for name in ("row", "value"):
                        out.create_dataset(name, (total,), file[name].dtype)
                own = file["offsets"][...]
                offsets[unit : unit + len(own)] = at + own
                for start in range(0, int(own[-1]), CHUNK):
                    stop = min(start + CHUNK, int(own[-1]))
                    for name in ("row", "value"):
                        out[name][at + start : at + stop] = file[name][start:stop]
                at, unit = at + int(own[-1]), unit + len(own) - 1
        out.create_dataset("offsets", data=offsets)


def _guarded(path: Path) -> Guarded:
    return Guarded(path, "unit activations", "`interp extract` with --activations")
