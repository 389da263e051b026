"""Rows taken from a pool, from their stored type to float32, in one pass.

`interp.store.encoding` says what the types are; here the conversion happens while a row is in the
processor's cache. Stored values are seen as integers of their size, which numba knows and float16
is not.
"""

from collections.abc import Callable, Mapping
from typing import Any, no_type_check

import numpy as np
from numpy.typing import NDArray

from interp.compiled import compiled
from interp.store.schema import DType

Bits = NDArray[Any]
Rows = NDArray[np.int64]
Values = NDArray[np.float32]


@compiled
@no_type_check
def _float16(first: int, last: int, stored: Bits, chosen: Rows, out: Values, column: int) -> None:
    width = stored.shape[1]
    for row in range(first, last):
        source, values = stored[chosen[row]], out[row, column : column + width]
        bits = values.view(np.int32)
        for j in range(width):  # the sign extends to the left; bits move to their places
            bits[j] = (np.int32(source[j]) << 13) & np.int32(-0x70002000)
        for j in range(width):
            values[j] *= np.float32(2.0**112)  # an exponent counted from 15, not from 127


@compiled
@no_type_check
def _bfloat16(first: int, last: int, stored: Bits, chosen: Rows, out: Values, column: int) -> None:
    width = stored.shape[1]
    for row in range(first, last):
        source = stored[chosen[row]]
        bits = out[row, column : column + width].view(np.int32)
        for j in range(width):
            bits[j] = np.int32(source[j]) << 16


@compiled
@no_type_check
def _float32(first: int, last: int, stored: Bits, chosen: Rows, out: Values, column: int) -> None:
    width = stored.shape[1]
    for row in range(first, last):
        source = stored[chosen[row]]
        bits = out[row, column : column + width].view(np.int32)
        for j in range(width):
            bits[j] = source[j]


GATHER: Mapping[DType, Callable[[int, int, Bits, Rows, Values, int], None]] = {
    "float16": _float16,
    "bfloat16": _bfloat16,
    "float32": _float32,
}
"""For each stored type, a loop that puts rows ``chosen[first:last]`` of ``stored`` into rows
``first`` to ``last`` of ``out``, from ``column`` on; float16 must be finite."""


def bits_of(stored: np.ndarray) -> Bits:
    """Stored values as the integers that the loops take; no copy."""
    return stored.view(f"i{stored.itemsize}")


@compiled
@no_type_check
def _largest(bits: Bits) -> int:
    found = bits[0] & 0
    most = np.iinfo(bits.dtype).max
    for j in range(len(bits)):
        found = max(found, bits[j] & most)
    return found


_INFINITY: Mapping[DType, int] = {"float16": 0x7C00, "bfloat16": 0x7F80, "float32": 0x7F800000}


def finite(stored: np.ndarray, dtype: DType) -> bool:
    """Whether stored values, contiguous, hold neither NaN nor infinity."""
    bits = bits_of(stored).reshape(-1)
    return not len(bits) or int(_largest(bits)) < _INFINITY[dtype]
