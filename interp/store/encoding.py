"""How activations are encoded for storage, and decoded again.

bfloat16, which numpy lacks, is kept as the upper half of a float32, in uint16.
"""

from collections.abc import Mapping

import numpy as np

from interp.store.schema import STORED, DType

LARGEST: Mapping[str, float] = {
    "float16": 65504.0,
    "bfloat16": 3.3895313892515355e38,
    "float32": float(np.finfo(np.float32).max),
}
"""The largest number each stored type holds."""


def encode(values: np.ndarray, dtype: DType) -> np.ndarray:
    """Floating-point values as they are stored, rounded to nearest, ties to even.

    Values that are too large become infinite; values already in their stored type pass through.
    """
    if dtype != "bfloat16" or values.dtype == np.uint16:
        with np.errstate(over="ignore"):
            return values.astype(STORED[dtype], copy=False)
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    special = (bits & 0x7F800000) == 0x7F800000  # rounding must not turn NaN into infinity
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(special, (bits >> 16) | ((bits & 0xFFFF) != 0), rounded).astype(np.uint16)


BLOCK = 1 << 19
"""Numbers looked at together, so that they stay in cache."""


def all_finite(stored: np.ndarray) -> bool:
    """Whether stored values hold neither NaN nor infinity; uint16 stands for bfloat16."""
    if stored.dtype == np.float32:
        return bool(np.isfinite(stored).all())
    # Integer arithmetic: numpy's own test of float16 is three times slower.
    exponent = 0x7C00 if stored.dtype == np.float16 else 0x7F80
    bits = np.ascontiguousarray(stored).view(np.uint16).reshape(-1)
    parts = (bits[start : start + BLOCK] for start in range(0, len(bits), BLOCK))
    return all(bool((part & 0x7FFF).max() < exponent) for part in parts)


def decode(stored: np.ndarray, dtype: DType) -> np.ndarray:
    """Stored values as float32."""
    if dtype == "float16" and not all_finite(stored):
        return stored.astype(np.float32)  # infinity and NaN stay what they are
    if dtype == "float32":
        return stored.astype(np.float32, copy=False)
    flat = np.ascontiguousarray(stored).reshape(-1)
    out = np.empty(len(flat), np.float32)
    for start in range(0, len(flat), BLOCK):
        decode_finite(flat[start : start + BLOCK], dtype, out[start : start + BLOCK])
    return out.reshape(stored.shape)


def decode_finite(stored: np.ndarray, dtype: DType, out: np.ndarray) -> None:
    """Stored values, known to be finite, into ``out`` of float32; exact.

    A float16 is a float32 whose exponent counts from 15 instead of 127: its bits moved into
    place and the whole multiplied by 2^112, subnormal numbers included. numpy's own conversion
    takes twice the time, as it goes number by number.
    """
    if dtype == "float16":
        bits = out.view(np.int32)
        np.copyto(bits, stored.view(np.int16))  # the sign extends to the left
        np.left_shift(bits, 13, out=bits)
        np.bitwise_and(bits, _SIGN_AND_VALUE, out=bits)
        np.multiply(out, _REBIAS, out=out)
    elif dtype == "bfloat16":
        bits = out.view(np.uint32)
        np.copyto(bits, stored)
        np.left_shift(bits, 16, out=bits)
    else:
        np.copyto(out, stored)


_SIGN_AND_VALUE = np.int32(0x8FFFE000 - (1 << 32))
_REBIAS = np.float32(2.0**112)
