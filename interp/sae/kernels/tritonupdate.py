"""`interp.sae.kernels.update` on a GPU: project, Adam, unit norm, every number moved once.

Rows that stay at unit norm are held whole in registers, a program a row; where rows do not, a
program takes a block of numbers. A row that had no gradient still moves, since its moments decay;
but its gradient is neither read nor need it have been written.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import ConfigError
from interp.sae.kernels.tritonlaunch import launch, parts, power_of_two
from interp.sae.kernels.update import Adam

BLOCK = 2048
"""Numbers a program steps where rows need not be whole."""


def update(
    weight: Float[Tensor, "rows width"],
    gradient: Float[Tensor, "rows width"],
    mean: Float[Tensor, "rows width"],
    square: Float[Tensor, "rows width"],
    adam: Adam,
    *,
    unit_rows: bool = False,
    factor: Float[Tensor, ""] | None = None,
    touched: Bool[Tensor, " rows"] | None = None,
) -> None:
    """Step a matrix of single precision in place; see `interp.sae.kernels.update.update`.

    Args:
        weight: changed in place.
        gradient: left unchanged.
        mean: m, changed in place.
        square: v, changed in place.
        adam: the step's settings.
        unit_rows: whether rows are projected and returned to unit norm.
        factor: what the gradient is multiplied by first, on the same device; by default 1.
        touched: rows whose gradient is read; that of others is taken to be zero. By default all.

    Raises:
        ConfigError: what is changed in place does not lie row by row in memory.
    """
    if not (weight.is_contiguous() and mean.is_contiguous() and square.is_contiguous()):
        raise ConfigError(
            "the one-pass update needs contiguous weights; call .contiguous() on them"
        )
    rows, width = weight.shape
    first, second = 1 - adam.beta1**adam.step, 1 - adam.beta2**adam.step
    keep = (adam.beta1, 1 - adam.beta1, adam.beta2, 1 - adam.beta2)
    numbers = (adam.lr / first, *keep, second**-0.5, adam.eps)
    mask = weight if touched is None else touched.view(torch.uint8)
    shorten = weight if factor is None else factor
    arrays = (weight, gradient.contiguous(), mean, square, mask, shorten)
    given = (*arrays, rows * width, width, *numbers)
    settings = {"UNIT": unit_rows, "ASKED": touched is not None, "SHORTEN": factor is not None}
    if unit_rows:
        whole = power_of_two(width)
        warps = min(16, max(1, whole // 512))
        launch(_update, (rows,), *given, warps=warps, BLOCK=whole, **settings)
    else:
        blocks = (parts(rows * width, BLOCK),)
        launch(_update, blocks, *given, warps=8, BLOCK=BLOCK, **settings)


@triton.jit
@no_type_check
def _update(
    weights,
    gradients,
    means,
    squares,
    touched,
    factor,
    total,
    width,
    rate,
    keep,
    take,
    hold,
    add,
    unbias,
    eps,
    UNIT: tl.constexpr,
    ASKED: tl.constexpr,
    SHORTEN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    lane = tl.arange(0, BLOCK)
    if UNIT:
        row = tl.program_id(0).to(tl.int64)
        place = row * width + lane
        known = lane < width
    else:
        place = tl.program_id(0).to(tl.int64) * BLOCK + lane
        known = place < total
        row = place // width
    read = known
    if ASKED:
        if UNIT:
            read = known & (tl.load(touched + row) != 0)
        else:
            read = known & (tl.load(touched + row, mask=known, other=0) != 0)
    w = tl.load(weights + place, mask=known, other=0)
    g = tl.load(gradients + place, mask=read, other=0)
    m = tl.load(means + place, mask=known, other=0)
    v = tl.load(squares + place, mask=known, other=0)
    if SHORTEN:
        g *= tl.load(factor)
    if UNIT:
        g -= tl.sum(g * w, axis=0) * w
    m = keep * m + take * g
    v = hold * v + add * g * g
    w -= rate * m / (tl.sqrt(v) * unbias + eps)
    if UNIT:
        length = tl.sum(w * w, axis=0)
        w /= tl.sqrt(tl.where(length > 0, length, 1.0))
    tl.store(weights + place, w, mask=known)
    tl.store(means + place, m, mask=known)
    tl.store(squares + place, v, mask=known)
