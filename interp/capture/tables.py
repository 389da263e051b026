"""Opening files of activations that another program wrote, without reading them into memory.

Nothing in such a file is executed: ``.npy`` without pickled objects, ``.pt`` with
``weights_only=True`` alone, ``.safetensors`` by its header, checked against the file's size.
"""

import json
import math
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from interp.errors import ConfigError, DataError, FormatError, UnknownName
from interp.store.imports import Table

_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4",
    "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1",
}  # fmt: skip
_LONGEST_HEADER = 100_000_000


def open_table(path: str | Path, key: str = "") -> Table:
    """An array of a ``.npy``, ``.pt`` or ``.safetensors`` file.

    Args:
        path: the file.
        key: which array, if there are several.

    Raises:
        ConfigError: there is no such file, or none of these kinds.
        UnknownName: it has no array of that name, or several and none was named.
        FormatError: it is damaged, or holds objects that would have to be executed.
    """
    file = Path(path).expanduser().resolve()
    readers: dict[str, Callable[[Path, str], Table]] = {
        ".npy": _npy,
        ".pt": _pt,
        ".pth": _pt,
        ".safetensors": _safetensors,
    }
    kind = file.suffix.lower()
    if kind not in readers:
        raise ConfigError(f"{file.name} is none of {', '.join(readers)}; convert it to one of them")
    if not file.is_file():
        raise ConfigError(f"there is no file {file}; give the path of one")
    return readers[kind](file, key)


def _npy(file: Path, key: str) -> Table:
    if key:
        raise ConfigError(f"{file.name} holds one array without a name; leave out --key")
    try:
        values = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise _damaged(file, error) from error
    return Table(file, values)


def _pt(file: Path, key: str) -> Table:
    import torch

    def load(*, mapped: bool) -> Any:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)

    try:
        try:
            found = load(mapped=True)
        except (RuntimeError, ValueError):  # torch's format before 1.6 cannot be mapped
            found = load(mapped=False)
    except (RuntimeError, ValueError, EOFError, OSError, KeyError) as error:
        raise _damaged(file, error) from error
    except pickle.UnpicklingError as error:
        raise FormatError(
            f"{file} holds more than tensors, which could run anything when loaded; save the "
            "activations alone with torch.save(tensor, path)"
        ) from error
    if isinstance(found, Mapping):
        tensors = {str(name): each for name, each in found.items() if torch.is_tensor(each)}
        key = _chosen(file, key, tensors)
        found = tensors[key]
    elif key:
        raise ConfigError(f"{file.name} holds one tensor without a name; leave out --key")
    if not torch.is_tensor(found) or found.layout != torch.strided:
        raise DataError(f"{file} holds no plain tensor; save one with torch.save(tensor, path)")
    bfloat16 = found.dtype == torch.bfloat16
    tensor = found.detach().view(torch.int16) if bfloat16 else found.detach()
    try:
        values = tensor.numpy()
    except TypeError as error:  # such as float8
        raise DataError(
            f"{file} holds {found.dtype}; save it as float16, float32 or bfloat16"
        ) from error
    return Table(file, values.view(np.uint16) if bfloat16 else values, bfloat16, key)


def _safetensors(file: Path, key: str) -> Table:
    size = file.stat().st_size
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > min(size - 8, _LONGEST_HEADER):
                raise ValueError(f"a header of {length} bytes")
            header: dict[str, Any] = json.loads(opened.read(length))
        header.pop("__metadata__", None)
        key = _chosen(file, key, header)
        kind, shape = header[key]["dtype"], tuple(int(n) for n in header[key]["shape"])
        start, stop = (int(n) for n in header[key]["data_offsets"])
        dtype = np.dtype(_TYPES[kind]) if kind in _TYPES else None
        if dtype is None:
            raise DataError(f"{file} holds {kind}; save it as float16, float32 or bfloat16")
        inside = 0 <= start <= stop <= size - 8 - length and min(shape, default=0) >= 0
        if not inside or math.prod(shape) * dtype.itemsize != stop - start:
            raise ValueError(f"{key} of shape {shape} in bytes {start} to {stop} of {size}")
    except (ValueError, TypeError, KeyError, AttributeError, struct.error, RecursionError) as error:
        if isinstance(error, UnknownName):
            raise
        raise _damaged(file, error) from error
    if start == stop:
        values = np.empty(shape, dtype)
    else:
        values = np.memmap(file, dtype, "r", offset=8 + length + start, shape=shape)
    return Table(file, values, kind == "BF16", key)


def _chosen(file: Path, key: str, arrays: Mapping[str, Any]) -> str:
    if not key and len(arrays) == 1:
        return next(iter(arrays))
    if key not in arrays:
        raise UnknownName(f"array of {file.name}", key, arrays, "Name one with --key.")
    return key


def _damaged(file: Path, error: Exception) -> FormatError:
    first = (str(error).strip().splitlines() or [repr(error)])[0][:200]
    return FormatError(f"{file} is no readable {file.suffix} file ({first}); make it again")
