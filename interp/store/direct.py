"""Large arrays to their places in a file, past the page cache where the system has such a way.

Written the usual way, bytes are first copied to pages of the cache, and a virtual machine may take
some 8 µs for each page that it has not touched before: for a shard of 44 MB .1 s of computing, not
.01 s, at the expense of the model that works on the next one. Direct writes need addresses and
places that are multiples of a page, so arrays go through one such buffer. What remains at the end
of an array, and all of it where the system or file system knows no such way, goes the usual one.

Nobody reads a file while it is written directly, and no page of it stays in the cache from before:
not every file system keeps such pages and what is written past them in step.
"""

import errno
import hashlib
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np

PAGE = 4096
"""Direct writes begin and end at multiples of it, on any disk of today."""
LARGE = 1 << 20
"""Bytes from which an array is written directly."""
BUFFER = 1 << 22


@dataclass(frozen=True)
class Place:
    """Bytes, and where in a file they belong."""

    offset: int
    """In bytes."""
    values: np.ndarray
    """C-contiguous."""

    @property
    def view(self) -> memoryview:
        """The bytes."""
        return memoryview(self.values.reshape(-1).view(np.uint8).data)

    @property
    def direct(self) -> int:
        """How many of them, from the first on, may be written directly."""
        if self.values.nbytes < LARGE or self.offset % PAGE:
            return 0
        return self.values.nbytes // PAGE * PAGE


def write_at(path: Path, places: Sequence[Place]) -> None:
    """Write arrays to their places in an existing file, and all of it to disk.

    Args:
        path: the file.
        places: what goes where; no two overlap.

    Raises:
        OSError: no space is left, or the file cannot be written.
    """
    done = [0] * len(places)
    if any(place.direct for place in places):
        try:
            _write_directly(path, places, done)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # else: not on this file system
                raise
    with path.open("r+b", buffering=0) as file:
        for place, start in zip(places, done, strict=True):
            file.seek(place.offset + start)
            _write(file, place.view[start:])
        os.fsync(file.fileno())
        if any(done) and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def between(path: Path, places: Sequence[Place]) -> list[bytes]:
    """What a file holds before, between and after places, in order.

    Args:
        path: the file, as long as it will be.
        places: in the order of their offsets; no two overlap.
    """
    found: list[bytes] = []
    with path.open("rb") as file:
        for place in places:
            found.append(file.read(place.offset - file.tell()))
            file.seek(place.offset + place.values.nbytes)
        return [*found, file.read()]


def sha256_of(rest: Sequence[bytes], places: Sequence[Place]) -> str:
    """Hex SHA-256 of a file, from memory alone.

    Args:
        rest: as `between` gives it.
        places: the same.
    """
    digest = hashlib.sha256()
    for before, place in zip(rest, places, strict=False):
        digest.update(before)
        digest.update(place.view)
    digest.update(rest[-1])
    return digest.hexdigest()


def _write_directly(path: Path, places: Sequence[Place], done: list[int]) -> None:
    """Note in ``done`` how many bytes of each have been written."""
    flag = getattr(os, "O_DIRECT", 0)
    if not flag:
        return

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | flag)

    with (
        mmap.mmap(-1, BUFFER) as pages,  # its address is that of a page
        memoryview(pages) as buffer,
        open(path, "r+b", buffering=0, opener=opener) as file,
    ):
        for index, place in enumerate(places):
            view = place.view
            while done[index] < place.direct:
                start = done[index]
                part = view[start : min(start + BUFFER, place.direct)]
                buffer[: len(part)] = part
                file.seek(place.offset + start)
                # a disk that fills up takes part of the bytes; the next write says why
                done[index] += file.write(buffer[: len(part)]) // PAGE * PAGE


def _write(file: FileIO, view: memoryview) -> None:
    while view:
        view = view[file.write(view) :]
