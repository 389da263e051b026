"""Compiled selection: which latents of a row are active. Exact, and without a sort.

1. Fold the row into ``blocks`` columns and keep each column's maximum. If k maxima reach a level,
   so do at least k entries: any such level is a lower bound of the k-th largest.
2. Find one by bisection, and look only into the columns whose maximum reaches it.
3. Bisect among the few candidates for the exact cut; ties go to the earlier latent.

Row i of the batch owns entries ``begins[i]`` up to ``ends[i]`` of ``values`` and ``latents``; all
values are positive. NaN is never selected: it spreads through the error instead.
"""

from typing import Any, no_type_check

import numpy as np
from numpy.typing import NDArray

from interp.compiled import compiled

Array = NDArray[Any]


@compiled
@no_type_check
def bisect(values: Array, k: int, enough: int) -> float:
    """A level reached by at least k and, ties apart, at most ``enough`` of at least k values."""
    low, high = values[0], values[0]
    for e in range(len(values)):
        low = values[e] if values[e] < low else low
        high = values[e] if values[e] > high else high
    reached = len(values)
    count = 0
    for e in range(len(values)):
        count += values[e] >= high
    if count >= k:
        return high
    while reached > enough:
        level = values.dtype.type(low / 2 + high / 2)
        if not low < level < high:
            break
        count = 0
        for e in range(len(values)):
            count += values[e] >= level
        if count >= k:
            low, reached = level, count
        else:
            high = level
    return low


@compiled
@no_type_check
def keep_largest(values: Array, latents: Array, count: int, k: int) -> int:
    """Move the k largest of ``count`` entries to the front; how many there are."""
    if count <= k:
        return count
    cut = bisect(values[:count], k, k)
    above, tied = 0, 0
    for e in range(count):
        above += values[e] > cut
        tied += values[e] == cut
    last = latents[:count].max()
    if above + tied > k:
        last = np.sort(latents[:count][values[:count] == cut])[k - above - 1]
    kept = 0
    for e in range(count):
        if values[e] > cut or (values[e] == cut and latents[e] <= last):
            values[kept], latents[kept] = values[e], latents[e]
            kept += 1
    return kept


@compiled
@no_type_check
def fold(row: Array, maxima: Array) -> None:
    """The largest of every ``len(maxima)``-th entry of a row."""
    width, blocks = len(row), len(maxima)
    maxima[:] = row[:blocks]
    for start in range(blocks, width, blocks):
        part = row[start : start + blocks]  # a slice: its loop becomes vector instructions
        for block in range(len(part)):
            maxima[block] = part[block] if part[block] > maxima[block] else maxima[block]


@compiled
@no_type_check
def candidates(
    row: Array, maxima: Array, level: float, hits: Array, values: Array, latents: Array
) -> int:
    """Collect a row's entries that reach a level, by way of its columns; how many there are.

    Each is written down before it is known to count, as no processor foresees which do.
    """
    width, blocks = len(row), len(maxima)
    found, count = 0, 0
    for block in range(blocks):
        hits[found] = block
        found += maxima[block] >= level
    for hit in range(found):
        for latent in range(hits[hit], width, blocks):
            values[count], latents[count] = row[latent], latent
            count += row[latent] >= level
    return count


@compiled
@no_type_check
def keep_positive(values: Array, latents: Array, count: int) -> int:
    """Move the positive ones of ``count`` entries to the front; how many there are."""
    kept = 0
    for e in range(count):
        if values[e] > 0:
            values[kept], latents[kept] = values[e], latents[e]
            kept += 1
    return kept


@compiled
@no_type_check
def load(pre: Array, bias: Array, columns: Array, row: Array) -> None:
    """One row's pre-activations of some columns, or of all where none are named."""
    if len(columns) == 0:
        for j in range(len(bias)):
            row[j] = pre[j] + bias[j]
    else:
        for j in range(len(columns)):
            row[j] = pre[columns[j]] + bias[columns[j]]


@compiled
@no_type_check
def select(
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
) -> None:
    """The k largest positive entries of rows ``first`` to ``last`` of a chunk.

    The chunk begins at row ``start`` of the batch; row i's entries begin at i·k.
    """
    width = len(columns) if len(columns) else len(bias)
    row, maxima = np.empty(width, pre.dtype), np.empty(blocks(k, width), pre.dtype)
    some, which = np.empty(width, pre.dtype), np.empty(width, np.int32)
    hits = np.empty(len(maxima), np.int32)
    for i in range(first, last):
        load(pre[i], bias, columns, row)
        fold(row, maxima)
        level = max(bisect(maxima, k, k + k // 8), row.dtype.type(0))
        count = candidates(row, maxima, level, hits, some, which)
        count = keep_largest(some, which, keep_positive(some, which, count), k)
        begin = (start + i) * k
        ends[start + i] = begin + count
        for e in range(count):
            values[begin + e] = some[e]
            latents[begin + e] = columns[which[e]] if len(columns) else which[e]


@compiled
@no_type_check
def blocks(k: int, width: int) -> int:
    """How many columns to fold a row into, so that the k largest rarely share one.

    And so that none is long: of a column that reaches a level all entries are looked at.
    """
    return min(width, max(64, 16 * k, width // 12))


@compiled
@no_type_check
def above(
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
) -> None:
    """The positive entries of a chunk's rows that reach ``cut``, row i's from ``begins[i]`` on.

    Where ``values`` is empty it only counts: ``ends[i]`` becomes the number.
    """
    width = len(bias)
    row, maxima = np.empty(width, pre.dtype), np.empty(blocks(32, width), pre.dtype)
    some, which = np.empty(width, pre.dtype), np.empty(width, np.int32)
    none, hits = np.empty(0, np.int32), np.empty(len(maxima), np.int32)
    for i in range(first, last):
        load(pre[i], bias, none, row)
        fold(row, maxima)
        count = candidates(row, maxima, row.dtype.type(cut), hits, some, which)
        count = keep_positive(some, which, count)
        if len(values) == 0:
            ends[start + i] = count
            continue
        begin = begins[start + i]
        ends[start + i] = begin + count
        values[begin : begin + count] = some[:count]
        latents[begin : begin + count] = which[:count]


@compiled
@no_type_check
def cut_to(k: int, rows: int, begins: Array, ends: Array, values: Array, latents: Array) -> float:
    """Keep the k largest entries of all, ties to the earlier row; the smallest of them.

    The lists of the first ``rows`` rows, which lie one after another, move together to the front.
    """
    total = ends[rows - 1]
    cut = bisect(values[:total], k, k)
    larger = 0
    for e in range(total):
        larger += values[e] > cut
    tied, kept = k - larger, 0  # where no two values tie, fewer than that are found
    smallest = values[:total].max()
    for i in range(rows):
        begin, end = begins[i], ends[i]
        begins[i] = kept
        own = 0
        for e in range(begin, end):
            own += values[e] == cut
        last = np.int32(2**31 - 1)
        if own > tied:
            last = np.int32(-1)
            if tied > 0:
                last = np.sort(latents[begin:end][values[begin:end] == cut])[tied - 1]
        tied -= min(own, tied)
        for e in range(begin, end):
            if values[e] > cut or (values[e] == cut and latents[e] <= last):
                values[kept], latents[kept] = values[e], latents[e]
                smallest = min(smallest, values[e])
                kept += 1
        ends[i] = kept
    return smallest
