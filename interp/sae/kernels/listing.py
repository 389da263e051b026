"""Compiled lists of the pre-activations that matter, and the sums that a step takes over them.

Row i of the batch owns entries ``starts[i]`` up to ``starts[i + 1]``. Entries of weight zero are
passed over in every sum: a list may be longer than what is active (`pairs.py` says why).
"""

from typing import Any, no_type_check

import numpy as np
from numpy.typing import NDArray

from interp.compiled import compiled
from interp.sae.kernels.summing import add_rows

Array = NDArray[Any]


@compiled
@no_type_check
def count(first: int, last: int, products: Array, bias: Array, floor: Array, counts: Array) -> None:
    """How many of each row's pre-activations lie above the latents' floors."""
    for i in range(first, last):
        row = products[i]
        found = 0
        for j in range(len(row)):
            found += row[j] + bias[j] > floor[j]
        counts[i] = found


@compiled
@no_type_check
def collect(
    first: int,
    last: int,
    begin: int,
    products: Array,
    bias: Array,
    floor: Array,
    starts: Array,
    values: Array,
    latents: Array,
) -> None:
    """The products, without bias, of those that `count` counts.

    Args:
        first: the range of rows of the chunk.
        last: and its end.
        begin: the chunk's first row in the batch.
        products: of the chunk's rows with the encoder.
        bias: of the latents.
        floor: what product + bias must exceed.
        starts: of all the batch's rows.
        values: receives the products.
        latents: receives their latents.
    """
    width = len(bias)
    some, which = np.empty(width + 1, products.dtype), np.empty(width + 1, np.int32)
    for i in range(first, last):
        row = products[i]
        found = 0
        for j in range(width):  # writes always, so that nothing branches
            some[found], which[found] = row[j], j
            found += row[j] + bias[j] > floor[j]
        start = starts[begin + i]
        values[start : start + found] = some[:found]
        latents[start : start + found] = which[:found]


@compiled
@no_type_check
def order(starts: Array, latents: Array, offsets: Array, rows: Array, places: Array) -> None:
    """Sort entries by latent, each latent's by row: a counting sort.

    Latent j's come to lie at ``offsets[j]`` up to ``offsets[j + 1]``; ``rows`` and ``places`` say
    of each its row and where it lies in the list.
    """
    offsets[:] = 0
    for e in range(starts[-1]):
        offsets[latents[e] + 1] += 1
    for j in range(1, len(offsets)):
        offsets[j] += offsets[j - 1]
    free = offsets[:-1].copy()
    for i in range(len(starts) - 1):
        for e in range(starts[i], starts[i + 1]):
            place = free[latents[e]]
            free[latents[e]] = place + 1
            rows[place], places[place] = i, e


@compiled
@no_type_check
def explain(
    first: int,
    last: int,
    target: Array,
    decoder: Array,
    starts: Array,
    latents: Array,
    values: Array,
    errors: Array,
    inner: Array,
    squares: Array,
) -> None:
    """What rows ``first`` to ``last`` leave unexplained, and each entry's share in it.

    Args:
        first: the range of rows.
        last: and its end.
        target: what is explained [n, d_in].
        decoder: a row each latent.
        starts: where each row's entries begin, and the end of the last.
        latents: of the entries.
        values: of the entries.
        errors: receives target - Σ value · decoder row [n, d_in].
        inner: receives error · decoder row of each entry.
        squares: receives Σ error² of each row.
    """
    some, which = np.empty(len(decoder), values.dtype), np.empty(len(decoder), np.int32)
    for i in range(first, last):
        active = 0
        for e in range(starts[i], starts[i + 1]):
            if values[e] != 0:
                some[active], which[active] = values[e], latents[e]
                active += 1
        error, source = errors[i], target[i]
        error[:] = 0
        add_rows(error, decoder, which[:active], some[:active])
        square = error.dtype.type(0)
        for c in range(len(error)):
            error[c] = source[c] - error[c]
            square += error[c] * error[c]
        squares[i] = square
        for e in range(starts[i], starts[i + 1]):
            direction = decoder[latents[e]]
            product = error.dtype.type(0)
            for c in range(len(error)):
                product += error[c] * direction[c]
            inner[e] = product


@compiled
@no_type_check
def gather(
    first: int,
    last: int,
    offsets: Array,
    rows: Array,
    places: Array,
    weights: Array,
    scale: float,
    table: Array,
    sums: Array,
    fresh: bool,
) -> None:
    """Σ scale · weight · row of ``table`` over the entries of latents ``first`` to ``last``.

    Args:
        first: the range of latents.
        last: and its end.
        offsets: as `order` gives them, like the next two.
        rows: of the sorted entries.
        places: of the sorted entries.
        weights: of the entries, in the list's order.
        scale: of all weights.
        table: one row each row of the batch.
        sums: one row each latent, to which its sum is added.
        fresh: whether they begin at zero, whatever they hold.
    """
    some, which = np.empty(len(table), weights.dtype), np.empty(len(table), np.int32)
    factor = weights.dtype.type(scale)
    for j in range(first, last):
        active = 0
        for place in range(offsets[j], offsets[j + 1]):
            weight = weights[places[place]]
            if weight != 0:
                some[active], which[active] = factor * weight, rows[place]
                active += 1
        if fresh:
            sums[j] = 0
        add_rows(sums[j], table, which[:active], some[:active])


@compiled
@no_type_check
def total(first: int, last: int, offsets: Array, places: Array, values: Array, sums: Array) -> None:
    """Sum the entries of each of the latents ``first`` to ``last``, in double precision."""
    for j in range(first, last):
        sum_ = 0.0
        for place in range(offsets[j], offsets[j + 1]):
            sum_ += values[places[place]]
        sums[j] = sum_


@compiled
@no_type_check
def tally(
    first: int,
    last: int,
    offsets: Array,
    places: Array,
    values: Array,
    counts: Array,
    least: Array,
) -> None:
    """How many of each latent's entries are positive, and the smallest such; infinity if none."""
    for j in range(first, last):
        count, low = 0, np.inf
        for place in range(offsets[j], offsets[j + 1]):
            value = values[places[place]]
            if value > 0:
                count += 1
                low = min(low, value)
        counts[j], least[j] = count, low
