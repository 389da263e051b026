"""Sums over index lists on a GPU: reconstructions, and the gradients of both matrices.

`_reconstruct`, a program a row. A row's entries are its active latents; inactive slots hold 0.

1. error = target - Σ value · decoder row, a tile of entries × columns at a time, and Σ error².
2. inner = error · decoder row of each entry; rows read a moment ago, which the L2 cache has.

`_gather`, a program a latent and range of columns. Entries sorted by latent lie side by side.

1. ∂decoder row = scale Σ value · error row,  ∂encoder row = scale Σ inner · centred row.

Each output has one writer that adds in a fixed order: no atomics, and the same bytes every time.
Sums are in single precision (double, if the values are), whatever the tables are stored in.
"""

from typing import no_type_check

import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from interp.sae.kernels.tritonlaunch import launch, parts, power_of_two

TILE = 4096
"""Numbers of a table that a program holds at once: 32 registers in each of 4 · 32 threads."""


def reconstruct(
    target: Float[Tensor, "n width"],
    decoder: Float[Tensor, "latents width"],
    begins: Int[Tensor, " n"],
    ends: Int[Tensor, " n"],
    values: Float[Tensor, " entries"],
    latents: Int[Tensor, " entries"],
    error: Float[Tensor, "n width"],
    inner: Float[Tensor, " entries"],
    squares: Float[Tensor, " n"],
    *,
    k: int,
) -> None:
    """What the entries leave unexplained, and each entry's share in it.

    Args:
        target: what is explained.
        decoder: a row each latent.
        begins: where each row's entries begin.
        ends: and end.
        values: of the entries; those of 0 are skipped, whatever their latent says.
        latents: of the entries.
        error: receives target - Σ value · decoder row.
        inner: receives error · decoder row of each entry of a row; 0 where the value is 0.
        squares: receives Σ error² of each row.
        k: entries a row, about; only the speed depends on it.
    """
    width = target.shape[1]
    columns = columns_at_once(width)
    entries = min(power_of_two(k), TILE // columns)
    given = (target, decoder, begins, ends, values, latents, error, inner, squares, width)
    launch(_reconstruct, (len(target),), *given, warps=4, COLUMNS=columns, ENTRIES=entries)


def gather(
    offsets: Int[Tensor, " bounds"],
    rows: Int[Tensor, " entries"],
    values: Float[Tensor, " entries"],
    inner: Float[Tensor, " entries"],
    scale: Float[Tensor, ""],
    error: Float[Tensor, "n width"],
    centred: Float[Tensor, "n width"],
    encoder: Float[Tensor, "latents width"],
    bias: Float[Tensor, " latents"],
    decoder: Float[Tensor, "latents width"],
    *,
    fresh: bool,
) -> None:
    """Every latent's gradients from its entries.

    Args:
        offsets: latent j has entries ``offsets[j]`` up to ``offsets[j + 1]``.
        rows: of the batch, of the entries sorted by latent.
        values: likewise.
        inner: likewise, error · decoder row.
        scale: what all sums are multiplied by; on the device, where it was computed.
        error: as `reconstruct` left it.
        centred: what the encoder was given.
        encoder: receives scale Σ inner · centred row.
        bias: receives scale Σ inner.
        decoder: receives scale Σ value · error row.
        fresh: whether the three are overwritten, zeros included, or added to.
    """
    width = error.shape[1]
    columns = columns_at_once(width)
    programs = (len(bias), parts(width, columns))
    sizes = {"COLUMNS": columns, "ENTRIES": min(16, TILE // columns)}
    given = (offsets, rows, values, inner, scale, error, centred, encoder, bias, decoder, width)
    launch(_gather, programs, *given, warps=4, FRESH=fresh, **sizes)


def columns_at_once(width: int) -> int:
    """The power of two from 64 to 512 that pads a row least, and of those the largest."""
    return min((512, 256, 128, 64), key=lambda size: parts(width, size) * size)


@triton.jit
@no_type_check
def _reconstruct(
    targets,
    decoder,
    begins,
    ends,
    values,
    latents,
    errors,
    inner,
    squares,
    width,
    COLUMNS: tl.constexpr,
    ENTRIES: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    begin, end = tl.load(begins + row), tl.load(ends + row)
    number: tl.constexpr = values.dtype.element_ty
    square = tl.zeros([COLUMNS], number)
    for start in range(0, width, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        inside = column < width
        left = tl.load(targets + row * width + column, mask=inside, other=0).to(number)
        for first in range(begin, end, ENTRIES):
            entry = first + tl.arange(0, ENTRIES)
            value = tl.load(values + entry, mask=entry < end, other=0)
            latent = tl.load(latents + entry, mask=value != 0, other=0).to(tl.int64)
            place = decoder + latent[:, None] * width + column[None, :]
            tile = tl.load(place, mask=(value != 0)[:, None] & inside[None, :], other=0)
            left -= tl.sum(value[:, None] * tile.to(number), axis=0)
        tl.store(errors + row * width + column, left, mask=inside)
        square += left * left
    tl.store(squares + row, tl.sum(square, axis=0))
    tl.debug_barrier()  # other threads of this program read what was stored above
    for first in range(begin, end, ENTRIES):
        entry = first + tl.arange(0, ENTRIES)
        value = tl.load(values + entry, mask=entry < end, other=0)
        latent = tl.load(latents + entry, mask=value != 0, other=0).to(tl.int64)
        product = tl.zeros([ENTRIES], number)
        for start in range(0, width, COLUMNS):
            column = start + tl.arange(0, COLUMNS)
            inside = column < width
            left = tl.load(errors + row * width + column, mask=inside, other=0).to(number)
            place = decoder + latent[:, None] * width + column[None, :]
            tile = tl.load(place, mask=(value != 0)[:, None] & inside[None, :], other=0)
            product += tl.sum(left[None, :] * tile.to(number), axis=1)
        tl.store(inner + entry, product, mask=entry < end)


@triton.jit
@no_type_check
def _gather(
    offsets,
    rows,
    values,
    inner,
    scale,
    errors,
    centred,
    encoder,
    bias,
    decoder,
    width,
    FRESH: tl.constexpr,
    COLUMNS: tl.constexpr,
    ENTRIES: tl.constexpr,
):
    latent = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < width
    begin, end = tl.load(offsets + latent), tl.load(offsets + latent + 1)
    number: tl.constexpr = values.dtype.element_ty
    into_decoder = tl.zeros([COLUMNS], number)
    into_encoder = tl.zeros([COLUMNS], number)
    into_bias = tl.zeros([ENTRIES], number)
    for first in range(begin, end, ENTRIES):
        entry = first + tl.arange(0, ENTRIES)
        there = entry < end
        row = tl.load(rows + entry, mask=there, other=0).to(tl.int64)
        value = tl.load(values + entry, mask=there, other=0)
        product = tl.load(inner + entry, mask=there, other=0)
        place = row[:, None] * width + column[None, :]
        known = there[:, None] & inside[None, :]
        left = tl.load(errors + place, mask=known, other=0).to(number)
        into_decoder += tl.sum(value[:, None] * left, axis=0)
        source = tl.load(centred + place, mask=known, other=0).to(number)
        into_encoder += tl.sum(product[:, None] * source, axis=0)
        into_bias += product
    if FRESH or end > begin:
        factor = tl.load(scale)
        into_decoder *= factor
        into_encoder *= factor
        share = tl.sum(into_bias, axis=0) * factor
        place = latent * width + column
        if not FRESH:
            into_decoder += tl.load(decoder + place, mask=inside, other=0)
            into_encoder += tl.load(encoder + place, mask=inside, other=0)
        tl.store(decoder + place, into_decoder, mask=inside)
        tl.store(encoder + place, into_encoder, mask=inside)
        if tl.program_id(1) == 0:
            if not FRESH:
                share += tl.load(bias + latent)
            tl.store(bias + latent, share)
