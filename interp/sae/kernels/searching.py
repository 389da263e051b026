"""Compiled selection from bfloat16 products: candidates first, then their values in full.

A product of rounded rows ĉ = c - δ and ê = e - ε is off by δ·e + ĉ·ε. How far, at most:

- *surely*, by Cauchy and Schwarz: ‖δ‖ ‖e‖ + ‖ĉ‖ ‖ε‖. The selection is then exact.
- *likely*. Given their sizes let the signs of all δ and ε be independent and fair. Then by
  Hoeffding's inequality it exceeds λs with a probability of at most 2 exp(-λ²/2), where
  s² = Σ (δe)² + Σ (ĉε)² ≤ ‖δ‖₄² ‖e‖₄² + ‖ĉ‖₄² ‖ε‖₄², again by Cauchy and Schwarz. Over all F
  latents of a row, λ² = 2 ln(2F / `MISSES`) makes the probability `MISSES` that its selection may
  differ. Norms of the fourth power make a few outlying dimensions count as what they are. Sums of d
  rounded numbers are treated alike: λ √d in place of d (Higham & Mary 2019).

What lies within the error of the k-th largest is computed in full; that decides how many extra
candidates there are. `bound` and `likely` give the error, `search` does the rest.
"""

from dataclasses import dataclass
from typing import Any, no_type_check

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

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
ROUNDING = np.float32(1.01 * 2**-8)
"""A bfloat16 result lies at most this share of its size from the number it stands for."""
SUMMING = 4 * 2**-24
"""Rounding of single precision's sums a term, the search's and the full one's."""
MISSES = 1e-4
"""Share of the rows whose selection may differ, at most, where the error is `likely`."""


@dataclass
class Rounded:
    """Rows in bfloat16, and 2-norms and 4-norms [rows, 2] of the rows and of what rounding took."""

    short: Tensor
    sizes: Array
    lost: Array


def bound(rows: Rounded, latents: Rounded) -> Array:
    """How far a row's products with any latent can be off, their own rounding apart, [rows]."""
    size, lost = rows.sizes[:, 0], rows.lost[:, 0]
    longest, most_lost = latents.sizes[:, 0].max(), latents.lost[:, 0].max()
    slack = lost * longest + (size + lost) * most_lost
    slack += SUMMING * rows.short.shape[1] * size * longest
    return (1.01 * slack).astype(np.float32)  # norms are rounded too


def likely(rows: Rounded, latents: Rounded) -> Array:
    """How far at most in all but `MISSES` of the rows, if rounding errors have fair signs."""
    far = np.sqrt(2 * np.log(2 * len(latents.sizes) / MISSES))
    size, lost = rows.sizes[:, 1], rows.lost[:, 1]
    longest, most_lost = latents.sizes[:, 1].max(), latents.lost[:, 1].max()
    spread = np.hypot(lost * longest, (size + lost) * most_lost)
    products = rows.sizes[:, 0] * latents.sizes[:, 0].max()
    spread += SUMMING * rows.short.shape[1] ** 0.5 * products
    # where few dimensions are all of a row, what is sure is less
    return np.minimum((1.01 * far * spread).astype(np.float32), bound(rows, latents))


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
        size2, size4, lost2, lost4 = 0.0, 0.0, 0.0, 0.0  # fourth powers want double precision
        for c in range(len(row)):
            own, gone = np.float64(row[c]) ** 2, np.float64(row[c] - wide[c]) ** 2
            size2 += own
            size4 += own * own
            lost2 += gone
            lost4 += gone * gone
        sizes[i, 0], sizes[i, 1] = np.sqrt(size2), np.sqrt(np.sqrt(size4))
        lost[i, 0], lost[i, 1] = np.sqrt(lost2), np.sqrt(np.sqrt(lost4))


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
    """Replace approximate values by exact pre-activations of the row ``x``, in a range.

    Four at a time: rows of the encoder come from far, and one by one they are waited for.
    """
    zero = x.dtype.type(0)
    whole = last - (last - first) % 4
    for e in range(first, whole, 4):
        j0, j1, j2, j3 = latents[e], latents[e + 1], latents[e + 2], latents[e + 3]
        d0, d1, d2, d3 = encoder[j0], encoder[j1], encoder[j2], encoder[j3]
        t0, t1, t2, t3 = zero, zero, zero, zero
        for c in range(len(x)):
            t0 += x[c] * d0[c]
            t1 += x[c] * d1[c]
            t2 += x[c] * d2[c]
            t3 += x[c] * d3[c]
        values[e], values[e + 1] = t0 + bias[j0], t1 + bias[j1]
        values[e + 2], values[e + 3] = t2 + bias[j2], t3 + bias[j3]
    for e in range(whole, last):
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
    full: Array,
) -> None:
    """As `select`, but from bfloat16 products; exact where their error is at most ``slack[row]``.

    1. Let k approximate values reach L. Then k exact ones reach L - slack, and what lies below
       L - 2 slack by the products cannot be among them.
    2. Compute those that reach L in full. Their k-th exact value is seldom as low as L - slack:
       what lies a slack below *it* by the products is no candidate either.
    3. Compute the candidates that are left in full. ``full[row]`` counts how many were, in all.

    To the slack comes the rounding of the product itself; of those near L at most ``ROUNDING``
    times |L| + max |bias|.
    """
    width = len(columns) if len(columns) else len(bias)
    row, maxima = np.empty(width, x.dtype), np.empty(blocks(k, width), x.dtype)
    some, which = np.empty(width, x.dtype), np.empty(width, np.int32)
    hits, farthest = np.empty(len(maxima), np.int32), np.abs(bias).max()
    for i in range(first, last):
        load_bfloat(pre[i], bias, columns, row)
        fold(row, maxima)
        level = bisect(maxima, k, k + k // 8)
        wide = slack[start + i] + ROUNDING * (abs(level) + farthest)
        count = candidates(row, maxima, max(level - 2 * wide, -wide), hits, some, which)
        if len(columns):
            for e in range(count):
                which[e] = columns[which[e]]
        reached = move_up(some, which, 0, count, level)
        rescore(some, which, 0, reached, x[start + i], encoder, bias)
        if reached >= k:
            count = move_up(some, which, reached, count, bisect(some[:reached], k, k) - wide)
        rescore(some, which, reached, count, x[start + i], encoder, bias)
        full[start + i] += count
        count = keep_largest(some, which, keep_positive(some, which, count), k)
        begin = (start + i) * k
        ends[start + i] = begin + count
        for e in range(count):
            values[begin + e], latents[begin + e] = some[e], which[e]


@compiled
@no_type_check
def seek(
    first: int,
    last: int,
    start: int,
    pre: Array,
    bias: Array,
    cut: float,
    begins: Array,
    ends: Array,
    values: Array,
    latents: Array,
    x: Array,
    encoder: Array,
    slack: Array,
    full: Array,
) -> None:
    """As `above`, but from bfloat16 products; exact where their error is at most ``slack[row]``.

    What lies a slack below the cut by the products cannot reach it. The others are counted first,
    and then computed in full: of those that were counted some do not reach the cut.
    """
    width = len(bias)
    row, maxima = np.empty(width, x.dtype), np.empty(blocks(32, width), x.dtype)
    some, which = np.empty(width, x.dtype), np.empty(width, np.int32)
    none, hits = np.empty(0, np.int32), np.empty(len(maxima), np.int32)
    farthest = np.abs(bias).max()
    for i in range(first, last):
        wide = slack[start + i] + ROUNDING * (abs(cut) + farthest)
        load_bfloat(pre[i], bias, none, row)
        fold(row, maxima)
        count = candidates(row, maxima, row.dtype.type(cut - wide), hits, some, which)
        if len(values) == 0:
            ends[start + i] = count
            continue
        full[start + i] += count
        rescore(some, which, 0, count, x[start + i], encoder, bias)
        count = move_up(some, which, 0, count, row.dtype.type(cut))
        count = keep_positive(some, which, count)
        begin = begins[start + i]
        ends[start + i] = begin + count
        values[begin : begin + count] = some[:count]
        latents[begin : begin + count] = which[:count]


@compiled
@no_type_check
def pack(first: int, last: int, begins: Array, ends: Array, values: Array, latents: Array) -> int:
    """Move the lists of rows ``first`` to ``last`` together, in place; where the last one ends."""
    at = begins[first]
    for i in range(first, last):
        begin, count = begins[i], ends[i] - begins[i]
        for e in range(count):
            values[at + e], latents[at + e] = values[begin + e], latents[begin + e]
        begins[i], ends[i] = at, at + count
        at += count
    return at
