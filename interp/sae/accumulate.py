"""A batch in parts that fit into memory: gradients are averaged, then one optimiser step follows.

Each part of m of the batch's n rows counts m/n. Error, L1 and L0 terms are means over rows, so
their gradient is that of the whole batch up to rounding. What an architecture takes over a batch
as such it takes over each part:

- BatchTopK and Matryoshka keep the m·k largest values of the part, and their threshold estimate
  averages over parts;
- AuxK is divided by the part's own residual, and quadratic-l0 squares the part's own distance.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.sae.kernels import StepResult
from interp.sae.learner import Learner


def accumulated(
    learner: Learner,
    x: Float[Tensor, "n d_in"],
    variance: float,
    dead: Bool[Tensor, " latents"] | None,
    rows: int | None,
) -> StepResult:
    """`Learner.step` over at most so many rows at a time."""
    return in_parts(learner.step, x, variance, dead, rows)


def in_parts(
    step: Callable[[Tensor, float, Tensor | None], StepResult],
    x: Float[Tensor, "n d_in"],
    variance: float,
    dead: Bool[Tensor, " latents"] | None,
    rows: int | None,
) -> StepResult:
    """Any step over at most so many rows at a time."""
    if rows is None or rows >= len(x):
        return step(x, variance, dead)
    total: StepResult | None = None
    for part in x.split(rows):
        result, share = step(part, variance, dead), len(part) / len(x)
        total = _times(result, share) if total is None else _plus(total, result, share)
    assert total is not None
    return total


def _times(result: StepResult, share: float) -> StepResult:
    """New tensors: a backend may use the memory of those it returned again."""
    return replace(
        result,
        loss=result.loss * share,
        unexplained=result.unexplained * share,
        aux=result.aux * share,
        l0=result.l0 * share,
        gradients=result.gradients.like([g * share for _, g in result.gradients.items()]),
    )


def _plus(total: StepResult, part: StepResult, share: float) -> StepResult:
    for (_, sum_), (_, more) in zip(total.gradients.items(), part.gradients.items(), strict=True):
        sum_.add_(more, alpha=share)
    return replace(
        total,
        loss=total.loss + part.loss * share,
        unexplained=total.unexplained + part.unexplained * share,
        aux=total.aux + part.aux * share,
        l0=total.l0 + part.l0 * share,
        fired=total.fired | part.fired,
        smallest=torch.minimum(total.smallest, part.smallest),
    )
