"""A batch in parts that fit into memory: gradients are averaged, then one optimiser step follows.

Each part of m of the batch's n rows counts m/n. Error, L1 and L0 terms are means over rows, so
their gradient is that of the whole batch up to rounding. What an architecture takes over a batch
as such it takes over each part:

- BatchTopK and Matryoshka keep the m·k largest values of the part, and their threshold estimate
  averages over parts;
- AuxK is divided by the part's own residual, and quadratic-l0 squares the part's own distance.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.sae.kernels import StepResult, Weights
from interp.sae.learner import Learner


def accumulated(
    learner: Learner,
    x: Float[Tensor, "n d_in"],
    variance: float,
    dead: Bool[Tensor, " latents"] | None,
    rows: int | None,
) -> StepResult:
    """`Learner.step` over at most so many rows at a time."""
    if rows is None or rows >= len(x):
        return learner.step(x, variance, dead)
    total: StepResult | None = None
    for part in x.split(rows):
        result, share = learner.step(part, variance, dead), len(part) / len(x)
        gradients = _summed(total.gradients if total else None, result.gradients, share)
        total = replace(joined(total, result, share), gradients=gradients)
    assert total is not None
    return total


def _summed(total: Weights | None, part: Weights, share: float) -> Weights:
    """In new tensors: a backend may use the memory of those it returned again."""
    if total is None:
        return part.like([g * share for _, g in part.items()])
    for (_, sum_), (_, more) in zip(total.items(), part.items(), strict=True):
        sum_.add_(more, alpha=share)
    return total


def joined(total: StepResult | None, part: StepResult, share: float) -> StepResult:
    """What is known after one more part, which counts ``share``; gradients are left as they are."""
    if total is None:
        return replace(
            part,
            loss=part.loss * share,
            unexplained=part.unexplained * share,
            aux=part.aux * share,
            l0=part.l0 * share,
        )
    return replace(
        total,
        loss=total.loss + part.loss * share,
        unexplained=total.unexplained + part.unexplained * share,
        aux=total.aux + part.aux * share,
        l0=total.l0 + part.l0 * share,
        fired=total.fired | part.fired,
        smallest=_least(total.smallest, part.smallest),
    )


def _least(a: Float[Tensor, ""], b: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The smaller of two smallest active values, of which 0 means that nothing was active."""
    return torch.where((a > 0) & (b > 0), torch.minimum(a, b), torch.maximum(a, b))
