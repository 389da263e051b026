"""The optimiser's step on all weights in one pass: project, Adam, return to unit norm.

Adam (Kingma & Ba 2015, 1412.6980), as `torch.optim.Adam` computes it, for a matrix whose rows w
stay at unit norm:

0. g ← c g, where the gradients of all weights together are longer than they may be (clipping).
1. g ← g - (g·w) w, where rows are kept at unit norm: a step along w would be undone by 4.
2. m ← β₁ m + (1 - β₁) g,   v ← β₂ v + (1 - β₂) g².
3. w ← w - lr / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε).
4. w ← w / ‖w‖, where rows are kept at unit norm.

Each row is read and written once, while it lies in the processor's nearest cache; done one after
another, the five read every array again from memory.
"""

from dataclasses import dataclass
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from interp.compiled import compiled
from interp.sae.kernels.compiled import even, share

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Adam:
    """One step's settings."""

    lr: float
    """The learning rate of this step."""
    step: int
    """t: 1 at the first step."""
    beta1: float = 0.9
    """Decay of the mean gradient."""
    beta2: float = 0.999
    """Decay of the mean squared gradient."""
    eps: float = 1e-8
    """ε, below which a mean gradient counts as noise."""


def update(
    weight: Float[Tensor, "rows width"],
    gradient: Float[Tensor, "rows width"],
    mean: Float[Tensor, "rows width"],
    square: Float[Tensor, "rows width"],
    adam: Adam,
    *,
    unit_rows: bool = False,
    factor: Float[Tensor, ""] | None = None,
) -> None:
    """Step a matrix in place.

    Args:
        weight: changed in place; a vector goes in as one row.
        gradient: left unchanged.
        mean: m, `torch.optim.Adam`'s ``exp_avg``; changed in place.
        square: v, its ``exp_avg_sq``; changed in place.
        adam: the step's settings.
        unit_rows: whether steps 1 and 4 are done.
        factor: c, by default 1.
    """
    first, second = 1 - adam.beta1**adam.step, 1 - adam.beta2**adam.step
    shorten = 1.0 if factor is None else float(factor)
    numbers = (adam.lr / first, adam.beta1, adam.beta2, second**-0.5, adam.eps, shorten)
    arrays = (weight.numpy(), gradient.numpy(), mean.numpy(), square.numpy())
    share(_update, even(len(weight)), *arrays, *numbers, unit_rows)


@compiled
@no_type_check
def _update(
    first: int,
    last: int,
    weights: Array,
    gradients: Array,
    means: Array,
    squares: Array,
    rate: float,
    beta1: float,
    beta2: float,
    unbias: float,
    eps: float,
    shorten: float,
    unit_rows: bool,
) -> None:
    number = weights.dtype.type
    keep, take, hold, add = number(beta1), number(1 - beta1), number(beta2), number(1 - beta2)
    speed, root, least, factor = number(rate), number(unbias), number(eps), number(shorten)
    for i in range(first, last):
        w, g, m, v = weights[i], gradients[i], means[i], squares[i]
        along = number(0)
        if unit_rows:
            for c in range(len(w)):
                along += g[c] * w[c]
            along *= factor
        length = number(0)
        for c in range(len(w)):
            slope = factor * g[c] - along * w[c]
            m[c] = keep * m[c] + take * slope
            v[c] = hold * v[c] + add * slope * slope
            w[c] -= speed * m[c] / (np.sqrt(v[c]) * root + least)
            length += w[c] * w[c]
        if unit_rows and length > 0:
            shrink = number(1) / np.sqrt(length)
            for c in range(len(w)):
                w[c] *= shrink
