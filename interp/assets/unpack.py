"""Unpacking the wanted members of a wheel or sdist, without trusting the archive.

Members with an absolute path, with ``..`` or that are links or devices end the unpacking; the
bytes each may have are bounded. Nothing is executed and no permission bits are taken over.
"""

import errno
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from interp.errors import AssetError

LARGEST = 4 << 30
"""Most bytes all unpacked members may have together."""

_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    FileExistsError,  # the same member twice
    NotImplementedError,  # a compression or encryption zipfile does not know
    RuntimeError,
    ValueError,  # a size or a name that cannot be one
)
_DAMAGE_CODES = (None, errno.EINVAL, errno.ENAMETOOLONG)
"""Of an OSError: gzip's own, a place before the file's start, a name no disk takes."""


@runtime_checkable
class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


def unpack(archive: Path, folder: Path, wants: Callable[[str], bool]) -> list[str]:
    """Write the wanted members below a folder and return their names, sorted.

    Args:
        archive: a zip file (wheel) or a tar file (sdist), told apart by their bytes.
        folder: where to write; made if missing.
        wants: says of a member's name whether it is wanted.

    Raises:
        AssetError: the archive is damaged, unsafe, too large, or has none of the members.
    """
    try:
        if zipfile.is_zipfile(archive):
            names = _unpack_zip(archive, folder, wants)
        else:
            names = _unpack_tar(archive, folder, wants)
    except (*_DAMAGE, OSError) as error:
        if not isinstance(error, _DAMAGE) and error.errno not in _DAMAGE_CODES:
            raise
        raise AssetError(
            f"{archive.name} is no readable wheel or sdist ({error}); delete it and fetch it again"
        ) from error
    if not names:
        raise AssetError(f"{archive.name} holds none of the files wanted of it")
    return sorted(names)


def _unpack_zip(archive: Path, folder: Path, wants: Callable[[str], bool]) -> list[str]:
    names: list[str] = []
    room = LARGEST
    with zipfile.ZipFile(archive) as source:
        for info in source.infolist():
            if info.is_dir() or not wants(info.filename):
                continue
            kind = info.external_attr >> 16 & 0o170000
            target = _target(archive, folder, info.filename, regular=kind in (0, 0o100000))
            with source.open(info) as file:
                room = _write(archive, file, target, room)
            names.append(info.filename)
    return names


def _unpack_tar(archive: Path, folder: Path, wants: Callable[[str], bool]) -> list[str]:
    names: list[str] = []
    room = LARGEST
    with tarfile.open(archive, "r:*") as source:
        for info in source:
            if info.isdir() or not wants(info.name):
                continue
            target = _target(archive, folder, info.name, regular=info.isreg())
            file = source.extractfile(info)
            if file is None:
                raise tarfile.ReadError(f"member {info.name} cannot be read")
            with file:
                room = _write(archive, file, target, room)
            names.append(info.name)
    return names


def _target(archive: Path, folder: Path, name: str, *, regular: bool) -> Path:
    """Where a member goes.

    Raises:
        AssetError: it would leave the folder, or is no regular file.
    """
    path = PurePosixPath(name)
    bad = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name
    if bad or not regular:
        raise AssetError(
            f"{archive.name} holds the unsafe member {name!r} and was not unpacked; fetch it again "
            "from an index you trust"
        )
    return folder / path


def _write(archive: Path, source: _Readable, target: Path, room: int) -> int:
    """Copy a member and return the bytes that are still allowed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        while block := source.read(1 << 20):
            room -= len(block)
            if room < 0:
                raise AssetError(f"{archive.name} unpacks to more than {LARGEST >> 30} GiB")
            file.write(block)
    return room
