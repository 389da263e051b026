"""Writing every activation of some units in bounded memory: an external sort by unit.

1. While rows stream by, each block's entries, ordered by unit and then by row, go to a scratch
   file. Blocks follow each other in order of rows.
2. In the end units are taken a few at a time: what belongs to them lies together in each block.
   Block after block put together is each unit's list in order of rows, and goes to its place.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Int64

from interp.features.activations import CHUNK, FORMAT, NAMES, VERSION
from interp.features.bases import Basis
from interp.features.codes import DENSE, half, merged
from interp.features.firing import Firer, Firing
from interp.features.table_writer import Header
from interp.files import replacing, resource_error
from interp.store import ActivationStore
from interp.store.shard import LOCK

_H5: Any = h5py  # its type stubs lack half of what is used here


def is_sparse(basis: Basis, store: ActivationStore, size: int) -> bool:
    """Whether at most ``DENSE`` of a basis' activations are above 0, judged by the first rows.

    Others are in the store already: keeping where they are not 0 would be larger than they are.
    """
    _, x = next(iter(store.blocks(basis.site, sinks=False, size=size)))
    return Firer(basis, [(0, basis.n_units)])(torch.from_numpy(x))[0].density <= DENSE


class Spill:
    """The entries of one range of units, on their way to `UnitActivations`."""

    def __init__(self, path: Path, units: int, rows: int) -> None:
        """Begin a scratch file.

        Args:
            path: where the activations will lie in the end.
            units: how many there are.
            rows: of the store.
        """
        self._path, self._units = path, units
        self._type = np.dtype(np.uint32 if rows <= 1 << 32 else np.int64)
        self._scratch = path.with_suffix(".scratch")
        self._offsets: list[np.ndarray] = []
        self._starts: list[int] = [0]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._scratch.open("w+b")

    def add(self, rows: Int64[np.ndarray, " block"], firing: Firing) -> None:
        """Take a block; later ones have higher rows.

        Raises:
            ResourceError: no space is left.
        """
        try:
            self._file.write(rows[firing.places].astype(self._type).tobytes())
            self._file.write(half(firing.values).tobytes())
        except OSError as error:
            raise resource_error(error, self._path) from error
        size = len(firing.values) * (self._type.itemsize + 2)
        self._offsets.append(firing.offsets.astype(np.int32))
        self._starts.append(self._starts[-1] + size)

    def finish(self, header: Header) -> None:
        """Write the sorted file at once and remove the scratch file.

        Raises:
            ResourceError: no space is left.
        """
        offsets = np.zeros(self._units + 1, np.int64)
        for each in self._offsets:
            offsets += each
        with LOCK, replacing(self._path) as partial, _H5.File(partial, "w", libver="v110") as file:
            row = file.create_dataset("row", (offsets[-1],), self._type)
            value = file.create_dataset("value", (offsets[-1],), np.float16)
            first = 0
            while first < self._units:
                room = int(np.searchsorted(offsets, offsets[first] + CHUNK, side="right")) - 1
                last = min(max(room, first + 1), self._units)
                _, rows, values = self._sorted(first, last)
                place = slice(int(offsets[first]), int(offsets[last]))
                row[place], value[place] = rows.astype(self._type), values
                first = last
            file.create_dataset("offsets", data=offsets)
            file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
            for name in NAMES:
                file.attrs[name] = getattr(header, name)
            file.attrs["n_units"], file.attrs["rows"] = header.n_units, header.rows
        self.close()

    def close(self) -> None:
        """Remove the scratch file."""
        self._file.close()
        self._scratch.unlink(missing_ok=True)

    def _sorted(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Offsets, rows and values of some units."""
        blocks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for offsets, start in zip(self._offsets, self._starts[:-1], strict=True):
            low, high, whole = (int(offsets[i]) for i in (first, last, -1))
            rows = self._read(start, self._type, low, high).astype(np.int64)
            values = self._read(
                start + whole * self._type.itemsize, np.dtype(np.float16), low, high
            )
            blocks.append((offsets[first : last + 1] - low, rows, values))
        return merged(blocks, last - first)

    def _read(self, start: int, dtype: np.dtype, low: int, high: int) -> np.ndarray:
        self._file.seek(start + low * dtype.itemsize)
        return np.frombuffer(self._file.read((high - low) * dtype.itemsize), dtype)
