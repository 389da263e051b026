"""Writing files so that a reader sees the old bytes or the new ones, never half of either."""

import errno
import hashlib
import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, cast

from interp.errors import FormatError, ResourceError


@contextmanager
def replacing(path: Path) -> Generator[Path, None, None]:
    """Yield a ``.partial`` path to write to; on success fsync it and move it onto ``path``.

    Raises:
        ResourceError: no space is left, or the folder cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        sync(partial)
        os.replace(partial, path)
        sync(path.parent)
    except OSError as error:
        raise resource_error(error, path) from error


def sync(path: Path) -> None:
    """Force a file's (or folder's) bytes to disk."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def resource_error(error: OSError, path: Path) -> Exception:
    """The clear sentence for a full disk or a forbidden folder; any other error unchanged."""
    # h5py reports a full disk with the errno only in its text.
    full = error.errno in (errno.ENOSPC, errno.EDQUOT) or "errno = 28" in str(error)
    if full:
        return ResourceError(
            f"no space left on the disk of {path.parent}; free some or choose another workspace "
            "with --workspace, then run the same command again: it continues"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ResourceError(
            f"cannot write {path}: {os.strerror(error.errno)}; choose a writable workspace with "
            "--workspace or INTERP_WORKSPACE"
        )
    blocking = next((each for each in (path, *path.parents) if each.is_file()), None)
    if error.errno in (errno.ENOTDIR, errno.EEXIST) and blocking is not None:
        return ResourceError(
            f"cannot write {path}: {blocking} is a file where a folder should be; "
            "choose another workspace with --workspace or INTERP_WORKSPACE"
        )
    return error


def check_writable(path: Path) -> None:
    """Find out before a long job whether its file can be written in the end.

    Makes the folder and leaves nothing else.

    Raises:
        ResourceError: no space is left, the folder cannot be written, or the path is a folder.
    """
    if path.is_dir():
        raise ResourceError(f"cannot write {path}: it is a folder; name a file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise resource_error(error, path) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, as UTF-8."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object atomically, keys in the given order, NaN refused."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FormatError: the file is missing, is no JSON, or holds no object.
    """
    try:
        value: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FormatError(f"{path} does not exist") from error
    except (ValueError, OSError, RecursionError) as error:
        raise FormatError(f"{path} is not readable as JSON ({error}); make it again") from error
    if not isinstance(value, dict):
        raise FormatError(f"{path} holds no JSON object; make it again")
    return cast(dict[str, Any], value)


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
