"""Compiled sums over index lists: reconstructions, and gradients of every weight.

The order of additions is fixed by the lists, so neither threads nor chunks change a byte. Four
rows are added at a time, because what is added to would else be read and written for each.
"""

from typing import Any, no_type_check

import numpy as np
from numpy.typing import NDArray

from interp.compiled import compiled

Array = NDArray[Any]


@compiled
@no_type_check
def add_rows(total: Array, table: Array, rows: Array, weights: Array) -> None:
    """Add ``Σ weights[e] · table[rows[e]]`` to ``total``."""
    entries, width = len(rows), len(total)
    whole = entries - entries % 4
    for e in range(0, whole, 4):
        v0, v1, v2, v3 = weights[e], weights[e + 1], weights[e + 2], weights[e + 3]
        t0, t1, t2, t3 = table[rows[e]], table[rows[e + 1]], table[rows[e + 2]], table[rows[e + 3]]
        for c in range(width):
            total[c] += (v0 * t0[c] + v1 * t1[c]) + (v2 * t2[c] + v3 * t3[c])
    for e in range(whole, entries):
        v0, t0 = weights[e], table[rows[e]]
        for c in range(width):
            total[c] += v0 * t0[c]


@compiled
@no_type_check
def reconstruct(
    first: int,
    last: int,
    target: Array,
    decoder: Array,
    group: Array,
    begins: Array,
    ends: Array,
    values: Array,
    latents: Array,
    errors: Array,
    inner: Array,
    squares: Array,
) -> None:
    """What rows ``first`` to ``last`` leave unexplained, and each entry's share in it.

    Latents may come in groups, of which the first, the first two, ... and all each reconstruct. An
    entry serves its own group's reconstruction and all later ones, so the sum of those errors is
    what counts for it. With one group that is the error.

    Args:
        first: the range of rows.
        last: and its end.
        target: what is explained [n, d_in].
        decoder: a row each latent.
        group: of each latent; 0 for all where there is one.
        begins: where each row's entries begin.
        ends: and end.
        values: of the entries.
        latents: of the entries.
        errors: receives Σ over this and later groups of target - Σ value · decoder row [groups, n,
            d_in].
        inner: receives (that of its group) · decoder row of each entry.
        squares: receives Σ error² of each group and row [groups, n].
    """
    groups = len(errors)
    some, which = values[:0].copy(), latents[:0].copy()
    if groups > 1:
        some, which = np.empty(len(decoder), values.dtype), np.empty(len(decoder), latents.dtype)
    for i in range(first, last):
        begin, end = begins[i], ends[i]
        source = target[i]
        for g in range(groups):
            error = errors[g, i]
            error[:] = 0
            if groups == 1:
                add_rows(error, decoder, latents[begin:end], values[begin:end])
            else:
                found = 0
                for e in range(begin, end):
                    if group[latents[e]] == g:
                        some[found], which[found] = values[e], latents[e]
                        found += 1
                add_rows(error, decoder, which[:found], some[:found])
            square = error.dtype.type(0)
            for c in range(len(error)):
                error[c] = source[c] - error[c]
                square += error[c] * error[c]
            squares[g, i] = square
            source = error
        for g in range(groups - 2, -1, -1):
            error, later = errors[g, i], errors[g + 1, i]
            for c in range(len(error)):
                error[c] += later[c]
        for e in range(begin, end):
            direction, error = decoder[latents[e]], errors[group[latents[e]], i]
            product = error.dtype.type(0)
            for c in range(len(error)):
                product += error[c] * direction[c]
            inner[e] = product


@compiled
@no_type_check
def by_latent(
    begins: Array,
    ends: Array,
    values: Array,
    latents: Array,
    inner: Array,
    offsets: Array,
    rows: Array,
    sorted_values: Array,
    sorted_inner: Array,
) -> None:
    """Sort entries by latent, each latent's by row: a counting sort.

    Latent j's entries come to lie at ``offsets[j]`` up to ``offsets[j + 1]``.
    """
    offsets[:] = 0
    for i in range(len(begins)):
        for e in range(begins[i], ends[i]):
            offsets[latents[e] + 1] += 1
    for j in range(1, len(offsets)):
        offsets[j] += offsets[j - 1]
    free = offsets[:-1].copy()
    for i in range(len(begins)):
        for e in range(begins[i], ends[i]):
            place = free[latents[e]]
            free[latents[e]] = place + 1
            rows[place] = i
            sorted_values[place] = values[e]
            sorted_inner[place] = inner[e]


@compiled
@no_type_check
def gather(
    first: int,
    last: int,
    offsets: Array,
    rows: Array,
    values: Array,
    inner: Array,
    scale: float,
    errors: Array,
    group: Array,
    centred: Array,
    fresh: bool,
    d_encoder: Array,
    d_b_enc: Array,
    d_decoder: Array,
) -> None:
    """Gradients of latents ``first`` to ``last`` from their entries.

    Args:
        first: the range of latents.
        last: and its end.
        offsets: where each latent's entries begin.
        rows: of the entries.
        values: of the entries.
        inner: error · decoder row of the entries.
        scale: the derivative of the loss by the reconstruction is scale · error.
        errors: as `reconstruct` gives them.
        group: of each latent.
        centred: the encoder's input [n, d_in].
        fresh: whether to overwrite the gradients, or else to add to them.
        d_encoder: receives the encoder's gradient.
        d_b_enc: receives its bias's.
        d_decoder: receives the decoder's.
    """
    factor = values.dtype.type(scale)
    for j in range(first, last):
        part = slice(offsets[j], offsets[j + 1])
        if fresh:
            d_encoder[j] = 0
            d_decoder[j] = 0
            d_b_enc[j] = 0
        if offsets[j] < offsets[j + 1]:
            up = factor * inner[part]
            add_rows(d_encoder[j], centred, rows[part], up)
            d_b_enc[j] += up.sum()
    for j in range(first, last):  # after the others, so that one table at a time is in the cache
        part = slice(offsets[j], offsets[j + 1])
        if offsets[j] < offsets[j + 1]:
            add_rows(d_decoder[j], errors[group[j]], rows[part], factor * values[part])


@compiled
@no_type_check
def column_sums(table: Array, sums: Array) -> None:
    """Σ over rows."""
    sums[:] = 0
    for i in range(len(table)):
        row = table[i]
        for c in range(len(sums)):
            sums[c] += row[c]


@compiled
@no_type_check
def scatter(table: Array, mean: Array) -> float:
    """Σ over rows of the squared distance from ``mean``."""
    total = 0.0
    for i in range(len(table)):
        row = table[i]
        square = row.dtype.type(0)
        for c in range(len(mean)):
            square += (row[c] - mean[c]) ** 2
        total += square
    return total
