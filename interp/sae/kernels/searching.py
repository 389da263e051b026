"""Compiled selection from bfloat16 products: exact, by a bound on how far they can be off."""

from typing import Any, no_type_check

import numpy as np
from numpy.typing import NDArray

from interp.compiled import compiled
from interp.sae.kernels.selecting import (
    bisect,
    blocks,
    candidates,
    fold,
    keep_largest,
    keep_positive,
)

Array = NDArray[Any]
ROUNDING = np.float32(1.01 * 2**-9)
"""A bfloat16 result lies this share of its size from the number it stands for."""


@compiled
@no_type_check
def rounding(first: int, last: int, table: Array, bits: Array, sizes: Array, lost: Array) -> None:
    """The norms of rows ``first`` to ``last``, and of what rounding to bfloat16 took from them."""
    wide = np.empty(table.shape[1], np.float32)
    for i in range(first, last):
        row, short = table[i], bits[i]
        upper = wide.view(np.int32)
        for c in range(len(row)):
            upper[c] = np.int32(short[c]) << 16
        size, gone = np.float32(0), np.float32(0)
        for c in range(len(row)):
            size += row[c] * row[c]
            gone += (row[c] - wide[c]) ** 2
        sizes[i], lost[i] = np.sqrt(size), np.sqrt(gone)


@compiled
@no_type_check
def load_bfloat(pre: Array, bias: Array, columns: Array, row: Array) -> None:
    """As `load`, from the bits of bfloat16: the upper half of single precision's."""
    bits = row.view(np.int32)
    if len(columns) == 0:
        for j in range(len(bias)):
            bits[j] = np.int32(pre[j]) << 16
        for j in range(len(bias)):
            row[j] += bias[j]
    else:
        for j in range(len(columns)):
            bits[j] = np.int32(pre[columns[j]]) << 16
        for j in range(len(columns)):
            row[j] += bias[columns[j]]


@compiled
@no_type_check
def rescore(
    values: Array, latents: Array, first: int, last: int, x: Array, encoder: Array, bias: Array
) -> None:
    """Replace approximate values by exact pre-activations of the row ``x``, in a range."""
    for e in range(first, last):
        direction = encoder[latents[e]]
        total = x.dtype.type(0)
        for c in range(len(x)):
            total += x[c] * direction[c]
        values[e] = total + bias[latents[e]]


@compiled
@no_type_check
def move_up(values: Array, latents: Array, first: int, last: int, level: float) -> int:
    """Move what reaches a level to the front of a range; where that part ends."""
    for e in range(first, last):
        if values[e] >= level:
            values[e], values[first] = values[first], values[e]
            latents[e], latents[first] = latents[first], latents[e]
            first += 1
    return first


@compiled
@no_type_check
def search(
    first: int,
    last: int,
    start: int,
    pre: Array,
    bias: Array,
    columns: Array,
    k: int,
    ends: Array,
    values: Array,
    latents: Array,
    x: Array,
    encoder: Array,
    slack: Array,
) -> None:
    """As `select`, but from bfloat16 products whose error is at most ``slack[row]``: exact.

    1. Let k approximate values reach L. Then k exact ones reach L - slack, and what lies below
       L - 2 slack by the products cannot be among them.
    2. Compute those that reach L in full. Their k-th exact value is seldom as low as L - slack:
       what lies a slack below *it* by the products is no candidate either.
    3. Compute the candidates that are left in full.

    To the slack comes the rounding of the product itself; of those near L at most ``ROUNDING``
    times |L| + max |bias|.
    """
    width = len(columns) if len(columns) else len(bias)
    row, maxima = np.empty(width, x.dtype), np.empty(blocks(k, width), x.dtype)
    some, which = np.empty(width, x.dtype), np.empty(width, np.int32)
    farthest = np.abs(bias).max()
    for i in range(first, last):
        load_bfloat(pre[i], bias, columns, row)
        fold(row, maxima)
        level = bisect(maxima, k, k + k // 8)
        wide = slack[start + i] + ROUNDING * (abs(level) + farthest)
        count = candidates(row, maxima, max(level - 2 * wide, -wide), some, which)
        if len(columns):
            for e in range(count):
                which[e] = columns[which[e]]
        reached = move_up(some, which, 0, count, level)
        rescore(some, which, 0, reached, x[start + i], encoder, bias)
        if reached >= k:
            count = move_up(some, which, reached, count, bisect(some[:reached], k, k) - wide)
        rescore(some, which, reached, count, x[start + i], encoder, bias)
        count = keep_largest(some, which, keep_positive(some, which, count), k)
        begin = (start + i) * k
        ends[start + i] = begin + count
        for e in range(count):
            values[begin + e], latents[begin + e] = some[e], which[e]
