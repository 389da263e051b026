"""One shard file: written once, read safely.

A file that claims to be a shard may be damaged or hostile, so nothing in it is believed before it
is checked: h5py is asked only where the bytes of a dataset lie. Links, filters, object types,
external and virtual storage, and bytes beyond the end of the file are refused before anything is
allocated. The rows themselves are then read from those places straight into the caller's array:
chunks are uncompressed, so this is what HDF5 would do, without its lock and its copies. In writing,
too, h5py lays the file out and `interp.store.direct` writes the rows to their places.
"""

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from interp.errors import StoreCorrupt
from interp.files import replacing
from interp.store.direct import LARGE, PAGE, Place, between, sha256_of, write_at
from interp.store.schema import CHUNK_ROWS, COLUMNS, DType

LOCK = threading.RLock()
"""HDF5 is not thread-safe everywhere; every use of h5py in this process holds this lock."""

AGAIN = "run the same `interp capture` again: it recaptures just what is missing"
REMEDY = f"delete that file and {AGAIN}"


def activation_key(site: str) -> str:
    """The dataset of a site's activations."""
    return f"activations/{site}"


# -- writing ------------------------------------------------------------------------------------


def publish(
    path: Path,
    columns: Mapping[str, np.ndarray],
    activations: Mapping[str, np.ndarray],
    dtypes: Mapping[str, DType],
) -> str:
    """Write a shard file from whole arrays already in their stored types; return its SHA-256.

    Raises:
        ResourceError: no space is left, or the folder cannot be written.
    """
    with replacing(path) as partial:
        try:
            with LOCK:
                places = _lay_out(partial, columns, activations, dtypes)
            rest = between(partial, places)
            with ThreadPoolExecutor(1) as pool:  # to disk and through the hash at the same time
                written = pool.submit(write_at, partial, places)
                digest = sha256_of(rest, places)
                written.result()
        except BaseException:
            with suppress(OSError):  # gives its space back
                partial.unlink(missing_ok=True)
            raise
    return digest


def _lay_out(
    path: Path,
    columns: Mapping[str, np.ndarray],
    activations: Mapping[str, np.ndarray],
    dtypes: Mapping[str, DType],
) -> list[Place]:
    """Everything of a file but its rows, and where those belong, in the file's order."""
    with h5py.File(
        path, "w", libver="v110", track_order=False,
        alignment_threshold=LARGE, alignment_interval=PAGE,
    ) as file:  # fmt: skip
        places: list[Place] = []
        for name, dtype in COLUMNS.items():
            values = np.ascontiguousarray(columns[name], dtype=dtype)
            places += _places(_dataset(file, name, values), values)
        for site, values in activations.items():
            dataset = _dataset(file, activation_key(site), values)
            dataset.attrs["torch_dtype"] = dtypes[site]
            places += _places(dataset, np.ascontiguousarray(values))
    return sorted(places, key=lambda place: place.offset)


def _dataset(file: h5py.File, name: str, values: np.ndarray) -> h5py.Dataset:
    rows = min(CHUNK_ROWS, len(values))
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    return file.create_dataset(
        name, values.shape, values.dtype, chunks=(rows, *values.shape[1:]), dcpl=plist
    )


def _places(dataset: h5py.Dataset, values: np.ndarray) -> list[Place]:
    assert dataset.chunks is not None
    rows, places = dataset.chunks[0], list[Place]()
    for start in range(0, len(values), rows):
        block = values[start : start + rows]
        if len(block) < rows:
            padded = np.zeros(dataset.chunks, values.dtype)
            padded[: len(block)] = block
            block = padded
        info = dataset.id.get_chunk_info_by_coord((start, *([0] * (values.ndim - 1))))
        assert info.byte_offset is not None
        places.append(Place(info.byte_offset, block))
    return places


# -- reading ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Extent:
    """Where the rows of one dataset lie in one file."""

    path: Path
    stamp: tuple[int, int, int]
    """Identity of the file when it was checked."""
    chunk_rows: int
    row_bytes: int
    offsets: tuple[int, ...]
    """Byte offset of each chunk."""

    def read_into(self, out: np.ndarray, start: int) -> None:
        """Fill ``out`` (C-contiguous) with rows from ``start`` on.

        Raises:
            StoreCorrupt: the file is missing, or no longer what was checked.
        """
        view = out.reshape(-1).view(np.uint8).data
        try:
            if stamp(self.path) != self.stamp:
                raise StoreCorrupt(f"shard {self.path} changed while it was read; open again")
            file = _opened(self.path, self.stamp)
            row, stop, filled = start, start + len(out), 0
            while row < stop:
                chunk, inside = divmod(row, self.chunk_rows)
                rows = min(stop - row, self.chunk_rows - inside)
                size = rows * self.row_bytes
                place = self.offsets[chunk] + inside * self.row_bytes
                file.fill(view[filled : filled + size], place)
                row, filled = row + rows, filled + size
        except OSError as error:
            raise _unreadable(self.path, error) from error


class _File:
    """An open shard; closed when nobody reads it any more."""

    def __init__(self, path: Path, number: int) -> None:
        self._path, self.number = path, number

    @classmethod
    def open(cls, path: Path) -> "_File":
        return cls(path, os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)))

    def __del__(self) -> None:
        os.close(self.number)

    def fill(self, view: memoryview, place: int) -> None:
        """Read the bytes from ``place`` on; several threads may do so at once."""
        while view:
            if hasattr(os, "preadv"):
                count = os.preadv(self.number, [view], place)
            else:  # Windows, where each read has its own file
                os.lseek(self.number, place, os.SEEK_SET)
                data = os.read(self.number, len(view))
                count, view[: len(data)] = len(data), data
            if not count:
                raise StoreCorrupt(f"shard {self._path} ends early; {REMEDY}")
            view, place = view[count:], place + count


def _opened(path: Path, known: tuple[int, int, int]) -> _File:
    # A file kept open keeps its read-ahead: reading block after block runs a tenth faster.
    file = _kept(path, known) if hasattr(os, "preadv") else _File.open(path)
    if stamp(file.number) != known:
        _kept.cache_clear()
        raise StoreCorrupt(f"shard {path} changed while it was read; open again")
    return file


@lru_cache(maxsize=2)
def _kept(path: Path, known: tuple[int, int, int]) -> _File:
    return _File.open(path)


def stamp(file: Path | int) -> tuple[int, int, int]:
    """What tells one state of a file from another: inode, size, time of change.

    Raises:
        StoreCorrupt: the file is missing.
    """
    try:
        status = os.stat(file)
    except OSError as error:
        raise _unreadable(Path(str(file)), error) from error
    return status.st_ino, status.st_size, status.st_mtime_ns


def _unreadable(path: Path, error: OSError) -> StoreCorrupt:
    if isinstance(error, FileNotFoundError):
        return StoreCorrupt(f"shard {path} is missing; {AGAIN}")
    return StoreCorrupt(f"shard {path} is no readable HDF5 file; {REMEDY}")


def _open(path: Path) -> h5py.File:
    """Without a lock, as network file systems may have none to give."""
    for locking in (False, None):
        try:
            return h5py.File(path, "r", locking=locking)
        except OSError as error:
            # This process has the file open with other flags, say in plain h5py: follow them.
            if "flag values don't match" not in str(error):
                raise
    return h5py.File(path, "r", locking=True)


def locate(path: Path, wanted: Mapping[str, tuple[Sequence[int], np.dtype[Any]]]) -> list[Extent]:
    """Where datasets lie in a shard, given their names, shapes and types.

    Raises:
        StoreCorrupt: the file is missing or no HDF5 file, or a dataset is not plainly what it
            should be.
    """
    try:
        before = stamp(path)  # compared at each read, it ties the offsets to these very bytes
        with LOCK, _open(path) as file:
            return [
                _extent(file, path, before, name, tuple(shape), dtype)
                for name, (shape, dtype) in wanted.items()
            ]
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        cause = error if isinstance(error, OSError) else OSError(str(error))
        raise _unreadable(path, cause) from error


def _extent(
    file: h5py.File,
    path: Path,
    before: tuple[int, int, int],
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Extent:
    def corrupt(what: str) -> StoreCorrupt:
        return StoreCorrupt(f"shard {path}: dataset {name} {what}; {REMEDY}")

    size = before[1]
    if prod(shape) * dtype.itemsize > size:
        raise corrupt(f"cannot hold {shape} numbers of {dtype} in {size} bytes")
    found: Any = file
    for part in name.split("/"):
        if not isinstance(found, h5py.Group):
            raise corrupt("is missing")
        if not isinstance(found.get(part, getlink=True), h5py.HardLink):
            raise corrupt("is missing or a link to elsewhere")
        found = found[part]
    if not isinstance(found, h5py.Dataset):
        raise corrupt("is no dataset")
    if found.shape != shape or found.dtype != dtype:
        raise corrupt(f"is {found.dtype} {found.shape}, the manifest says {dtype} {shape}")
    plist = found.id.get_create_plist()
    if found.is_virtual or plist.get_external_count() or plist.get_nfilters():
        raise corrupt("has external, virtual or filtered storage")
    row_bytes = prod(shape[1:]) * dtype.itemsize
    chunk = found.chunks or shape
    if tuple(chunk[1:]) != shape[1:]:
        raise corrupt("has chunks that split rows")
    offsets: list[int] = []
    for start in range(0, shape[0], chunk[0]):
        if found.chunks is None:
            offset, length = found.id.get_offset(), found.id.get_storage_size()
        else:
            info = found.id.get_chunk_info_by_coord((start, *([0] * (len(shape) - 1))))
            offset, length = info.byte_offset, info.size
        if offset is None or length < chunk[0] * row_bytes or offset + length > size:
            raise corrupt(f"lacks the bytes of its rows from {start}")
        offsets.append(int(offset))
    return Extent(path, before, int(chunk[0]), row_bytes, tuple(offsets))
