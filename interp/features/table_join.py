"""One unit table from several, each of which holds a range of the units."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py

from interp.files import replacing
from interp.store.shard import LOCK

_H5: Any = h5py  # its type stubs lack half of what is used here

BYTES = 1 << 26
"""In memory at a time."""
_SHARED = "histogram/edges"
"""The one array that is not by unit."""


def join_tables(path: Path, parts: Sequence[Path]) -> None:
    """Write one table of the units of several, in their order, at once.

    Args:
        path: the ``.h5`` file; what lies there is replaced.
        parts: tables of the same columns. A single one is moved.

    Raises:
        ResourceError: no space is left, or the folder cannot be written.
    """
    if len(parts) == 1:
        parts[0].replace(path)
        return
    with LOCK, replacing(path) as partial, _H5.File(partial, "w", libver="v110") as out:
        with _H5.File(parts[0], "r", locking=False) as file:
            shapes = _shapes(file)
            units = sum(_units(part) for part in parts)
            for name, (shape, dtype) in shapes.items():
                own = shape if name == _SHARED else (units, *shape[1:])
                out.create_dataset(name, own, dtype)
            out[_SHARED][...] = file[_SHARED][...]
            for name in file:
                out[name].attrs.update(dict(file[name].attrs))
            out.attrs.update({**dict(file.attrs), "n_units": units})
        at = 0
        for part in parts:
            with _H5.File(part, "r", locking=False) as file:
                for name in shapes:
                    if name != _SHARED:
                        _copy(file[name], out[name], at)
                at += int(file.attrs["n_units"])


def _units(part: Path) -> int:
    with _H5.File(part, "r", locking=False) as file:
        return int(file.attrs["n_units"])


def _shapes(file: Any) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and type of every array of a file, by name."""
    found: dict[str, tuple[tuple[int, ...], Any]] = {}

    def note(name: str, each: Any) -> None:
        if isinstance(each, _H5.Dataset):
            found[name] = (each.shape, each.dtype)

    file.visititems(note)
    return found


def _copy(source: Any, target: Any, at: int) -> None:
    step = max(1, BYTES * len(source) // max(source.nbytes, 1))
    for start in range(0, len(source), step):
        part = source[start : start + step]
        target[at + start : at + start + len(part)] = part
