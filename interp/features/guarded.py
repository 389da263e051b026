"""Reading an HDF5 file that may be damaged or foreign. No torch.

A dataset is read only if its link, type and shape are what the reader expects.
"""

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import h5py

from interp.errors import FormatError
from interp.store.shard import LOCK

_H5: Any = h5py  # its type stubs lack half of what is used here


class Guarded:
    """One such file, by what it is called and how it is made."""

    def __init__(self, path: Path, what: str, command: str) -> None:
        """Take the file's path, such words as ``unit table``, and the command that makes it."""
        self.path, self._what, self._command = path, what, command

    def malformed(self, why: str) -> FormatError:
        """The error that says so."""
        return FormatError(
            f"{self._what} {self.path} is malformed ({why}); delete it and run {self._command} "
            "again"
        )

    @contextmanager
    def opened(self) -> Generator[Any]:
        """The file, open for reading.

        Raises:
            FormatError: it is missing, or no HDF5 file.
        """
        with LOCK:
            try:
                file = _H5.File(self.path, "r", locking=False)
            except FileNotFoundError as error:
                raise FormatError(
                    f"{self.path} does not exist; {self._command} makes it"
                ) from error
            except OSError as error:
                raise self.malformed("no readable HDF5 file") from error
            with file:
                yield file

    def dataset(self, file: Any, name: str, shape: tuple[int | None, ...]) -> Any:
        """A dataset that is what it should be, or FormatError before anything is read."""
        parts = name.split("/")
        for end in range(1, len(parts) + 1):
            link = file.get("/".join(parts[:end]), getlink=True)
            if not isinstance(link, _H5.HardLink):
                raise self.malformed(f"{name} is missing or a link")
        found = file[name]
        if not isinstance(found, _H5.Dataset) or found.dtype.kind not in "iufb":
            raise self.malformed(f"{name} is no plain array")
        plan = found.id.get_create_plist()
        if plan.get_layout() != _H5.h5d.CONTIGUOUS or plan.get_external_count():
            raise self.malformed(f"{name} is not stored contiguously")
        fits = len(found.shape) == len(shape) and all(
            want is None or want == have for want, have in zip(shape, found.shape, strict=True)
        )
        if not fits or found.size * found.dtype.itemsize > found.file.id.get_filesize():
            raise self.malformed(f"{name} has shape {found.shape}")
        return found


def text(attributes: Any, name: str) -> str:
    """An attribute that must be text; TypeError else."""
    value = attributes[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def json_object(attributes: Any, name: str) -> dict[str, Any]:
    """An attribute that must hold a JSON object; TypeError or ValueError else."""
    value: object = json.loads(text(attributes, name))
    if not isinstance(value, dict):
        raise TypeError(f"{name} is no JSON object")
    return cast(dict[str, Any], value)
