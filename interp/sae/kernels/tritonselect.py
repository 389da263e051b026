"""The largest pre-activations of a row on a GPU, without sorting and without a wait for the host.

Only positive values count (relu follows), and positive floats are ordered as their bits are; so
below, a value's *key* is its bits as an integer, 0 where it is not positive, and the largest where
it is no number, so that such a value is seen.

`_survivors`, a program a row:

1. Fold: element i of a block of M columns meets element i of every other; their maximum is kept.
2. Search for the k-th largest of the M maxima, eight levels at a time. At least k keys reach it,
   and few more do, since M ≥ 16 k: a sure and close lower bound on the row's k-th largest.
3. Keep, in order, the entries that reach it, up to ``room``. The row comes from the L2 cache now.
4. Should more reach it (one residue class may hold all that is large), search the row itself so
   and keep exactly its k largest.

`_cut`, a program a row: search the survivors so, and keep the k largest.

Ties go to the earlier latent, as in every backend.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from interp.sae.kernels.tritonlaunch import launch, power_of_two

FOLDED = 16
"""Maxima for each entry wanted: fewer let more survive, more take longer to search."""
SMALLEST = 1024
"""Columns read at once, at least."""


def select(
    pre: Float[Tensor, "rows latents"],
    bias: Float[Tensor, " latents"],
    values: Float[Tensor, "rows k"],
    latents: Int[Tensor, "rows k"],
    allowed: UInt8[Tensor, " latents"] | None = None,
) -> None:
    """The k largest positive entries of each row of ``pre + bias``, in order of latents.

    Args:
        pre: products with the encoder.
        bias: added to each row.
        values: receives them; 0 in the slots that are left where fewer are positive.
        latents: receives whose they are; anything where the value is 0.
        allowed: the latents that may be chosen are not 0; by default all.
    """
    n, width = pre.shape
    k, columns = values.shape[1], block(values.shape[1])
    room = 2 * power_of_two(k)
    kept = pre.new_empty((n, room))
    whose = latents.new_empty((n, room))
    found = torch.empty(n, dtype=torch.int32, device=pre.device)
    given = (pre, bias, bias if allowed is None else allowed, kept, whose, found, width, k, room)
    sizes = {"MASKED": allowed is not None, "BLOCK": columns}
    launch(_survivors, (n,), *given, warps=min(16, columns // 128), **sizes)
    warps = min(4, max(1, room // 64))
    launch(_cut, (n,), kept, whose, found, values, latents, k, warps=warps, ROOM=room)


def block(k: int) -> int:
    """Columns read at once, which are also the maxima of a fold."""
    return max(SMALLEST, FOLDED * power_of_two(k))


def count_above(
    pre: Float[Tensor, "rows latents"],
    bias: Float[Tensor, " latents"],
    guess: Float[Tensor, ""],
    counts: Int[Tensor, " rows"],
) -> None:
    """How many entries of each row are positive and at least ``guess``."""
    n, width = pre.shape
    launch(_count_above, (n,), pre, bias, guess, counts, width, warps=8, BLOCK=SMALLEST)


def collect_above(
    pre: Float[Tensor, "rows latents"],
    bias: Float[Tensor, " latents"],
    guess: Float[Tensor, ""],
    begins: Int[Tensor, " rows"],
    values: Float[Tensor, " room"],
    latents: Int[Tensor, " room"],
) -> None:
    """Write those entries from ``begins`` on, as many as there is room for."""
    n, width = pre.shape
    given = (pre, bias, guess, begins, values, latents, width, len(values))
    launch(_collect_above, (n,), *given, warps=8, BLOCK=SMALLEST)


@triton.jit
@no_type_check
def _key(value):
    """Bits of positive values, 0 of others, the largest of what is no number."""
    if value.dtype == tl.float64:
        bits = value.to(tl.int64, bitcast=True)
        most = 0x7FFFFFFFFFFFFFFF - 1
    else:
        bits = value.to(tl.int32, bitcast=True)
        most = 0x7FFFFFFF - 1
    return tl.where(value > 0, bits, tl.where(value != value, most, 0).to(bits.dtype))


@triton.jit
@no_type_check
def _load(pre, bias, mask, row, column, width, MASKED: tl.constexpr):
    """Values of a row, 0 outside of it and where latents are not allowed."""
    known = column < width
    if MASKED:
        known = known & (tl.load(mask + column, mask=known, other=0) != 0)
    value = tl.load(pre + row * width + column, mask=known, other=0)
    return value + tl.load(bias + column, mask=known, other=0)


@triton.jit
@no_type_check
def _levels(low, high):
    """From ``low`` on, evenly; those beyond ``high`` are known to be too high."""
    return low + tl.arange(0, 8).to(low.dtype) * ((high - low) // 8 + 1)


@triton.jit
@no_type_check
def _narrow(levels, counts, low, high, over, k):
    """The nearest levels that k reach and that fewer reach; and how many reach that one."""
    enough = counts >= k
    low = tl.maximum(low, tl.max(tl.where(enough, levels, low), axis=0))
    high = tl.minimum(high, tl.min(tl.where(enough, high, levels), axis=0))
    over = tl.maximum(over, tl.max(tl.where(enough, 0, counts), axis=0))
    return low, high, over


@triton.jit
@no_type_check
def _kth(keys, low, high, k):
    """The highest level that k keys reach (``low`` if it is 0), and how many keys lie above it."""
    over = tl.sum((keys >= high).to(tl.int32), axis=0)
    while low + 1 < high:
        levels = _levels(low, high)
        counts = tl.sum((keys[None, :] >= levels[:, None]).to(tl.int32), axis=1)
        low, high, over = _narrow(levels, counts, low, high, over, k)
    return low, over


@triton.jit
@no_type_check
def _collect(
    pre,
    bias,
    mask,
    row,
    width,
    level,
    spare,
    into,
    whose,
    base,
    end,
    MASKED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write entries above ``level`` and the first ``spare`` at it, from ``base`` on; count them."""
    taken = 0
    tied = 0
    for start in range(0, width, BLOCK):
        column = start + tl.arange(0, BLOCK)
        value = _load(pre, bias, mask, row, column, width, MASKED)
        key = _key(value)
        at = (key == level).to(tl.int32)
        take = (key > level) | ((at != 0) & (tied + tl.cumsum(at, axis=0) <= spare))
        place = base + taken + tl.cumsum(take.to(tl.int32), axis=0) - 1
        tl.store(into + place, value, mask=take & (place < end))
        tl.store(whose + place, column, mask=take & (place < end))
        taken += tl.sum(take.to(tl.int32), axis=0)
        tied += tl.sum(at, axis=0)
    return taken


@triton.jit
@no_type_check
def _survivors(
    pre, bias, mask, kept, whose, found, width, k, room, MASKED: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    maxima = _key(_load(pre, bias, mask, row, lane, width, MASKED))
    for start in range(BLOCK, width, BLOCK):
        maxima = tl.maximum(maxima, _key(_load(pre, bias, mask, row, start + lane, width, MASKED)))
    top = tl.max(maxima, axis=0) + 1
    low, over = _kth(maxima, tl.min(tl.zeros_like(maxima), axis=0), top, k)
    level = tl.maximum(low, 1)
    base = row * room
    taken = _collect(
        pre, bias, mask, row, width, level, room, kept, whose, base, base + room, MASKED, BLOCK
    )
    if taken > room:
        low, high, over = level, top, 0
        while low + 1 < high:
            levels = _levels(low, high)
            counts = tl.zeros([8], tl.int32)
            for start in range(0, width, BLOCK):
                key = _key(_load(pre, bias, mask, row, start + lane, width, MASKED))
                counts += tl.sum((key[None, :] >= levels[:, None]).to(tl.int32), axis=1)
            low, high, over = _narrow(levels, counts, low, high, over, k)
        taken = _collect(
            pre,
            bias,
            mask,
            row,
            width,
            low,
            k - over,
            kept,
            whose,
            base,
            base + room,
            MASKED,
            BLOCK,
        )
    tl.store(found + row, taken)


@triton.jit
@no_type_check
def _cut(kept, whose, found, values, latents, k, ROOM: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, ROOM)
    there = slot < tl.load(found + row)
    value = tl.load(kept + row * ROOM + slot, mask=there, other=0)
    key = _key(value)
    low, over = _kth(key, tl.min(tl.zeros_like(key), axis=0), tl.max(key, axis=0) + 1, k)
    at = (key == low).to(tl.int32)
    take = (key > low) | ((at != 0) & (tl.cumsum(at, axis=0) <= k - over))
    place = row * k + tl.cumsum(take.to(tl.int32), axis=0) - 1
    tl.store(values + place, value, mask=take)
    tl.store(latents + place, tl.load(whose + row * ROOM + slot, mask=there, other=0), mask=take)


@triton.jit
@no_type_check
def _count_above(pre, bias, guess, counts, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    level = tl.maximum(_key(tl.load(guess)), 1)
    count = tl.zeros([BLOCK], tl.int32)
    for start in range(0, width, BLOCK):
        column = start + tl.arange(0, BLOCK)
        key = _key(_load(pre, bias, bias, row, column, width, False))
        count += (key >= level).to(tl.int32)
    tl.store(counts + row, tl.sum(count, axis=0))


@triton.jit
@no_type_check
def _collect_above(pre, bias, guess, begins, values, latents, width, room, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    level = tl.maximum(_key(tl.load(guess)), 1)
    base = tl.load(begins + row)
    _collect(pre, bias, bias, row, width, level, width, values, latents, base, room, False, BLOCK)
