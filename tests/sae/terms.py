"""What the formula tests of penalty architectures share: float64 problems, numeric gradients."""

from collections.abc import Callable

import numpy as np
import torch

from interp.sae.architecture import Architecture
from interp.sae.kernels import Weights
from interp.sae.penalty import PenaltyLearner, Terms
from tests.sae.shared import CPU

VARIANCE = 5.0
ROWS, D_IN, LATENTS = 12, 6, 10


def problem(
    architecture: Architecture, seed: int, **extra: torch.Tensor
) -> tuple[PenaltyLearner, Weights, torch.Tensor, torch.Tensor]:
    """A learner, random float64 weights for it, a batch, and a mask with some latents dead."""
    learner = architecture.learner(D_IN, CPU)
    assert isinstance(learner, PenaltyLearner)
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    decoder = normal(LATENTS, D_IN)
    if learner.unit_rows:
        decoder /= decoder.norm(dim=1, keepdim=True)
    weights = Weights(
        encoder=decoder + 0.1 * normal(LATENTS, D_IN),
        b_enc=0.3 * normal(LATENTS),
        decoder=decoder,
        b_dec=0.5 * normal(D_IN),
        extra={name: tensor.double() for name, tensor in extra.items()},
    )
    assert weights.extra.keys() == learner.weights.extra.keys()
    dead = torch.rand(LATENTS, generator=g) < 0.4
    assert 0 < int(dead.sum()) < LATENTS
    return learner, weights, 2 * normal(ROWS, D_IN), dead


def arrays(weights: Weights) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in weights.items()}


def gradients(
    learner: PenaltyLearner,
    weights: Weights,
    x: torch.Tensor,
    dead: torch.Tensor | None,
    term: Callable[[Terms], torch.Tensor],
) -> dict[str, np.ndarray]:
    """Of one term, by every parameter; zeros where it does not reach."""
    leaves = [tensor.clone().requires_grad_() for _, tensor in weights.items()]
    value = term(learner.terms(weights.like(leaves), x, VARIANCE, dead))
    if not value.requires_grad:
        return {name: np.zeros(tensor.shape) for name, tensor in weights.items()}
    found = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return {name: g.numpy() for (name, _), g in zip(weights.items(), found, strict=True)}


def numeric(loss: Callable[[Weights], float], weights: Weights, name: str) -> np.ndarray:
    """Central differences of a loss by one parameter."""
    result = np.zeros(dict(weights.items())[name].numel())
    for entry in range(len(result)):
        sides = []
        for sign in (1, -1):
            moved = [tensor.clone() if key == name else tensor for key, tensor in weights.items()]
            moved[[key for key, _ in weights.items()].index(name)].view(-1)[entry] += sign * 1e-6
            sides.append(loss(weights.like(moved)))
        result[entry] = (sides[0] - sides[1]) / 2e-6
    return result.reshape(dict(weights.items())[name].shape)


def reached(found: dict[str, np.ndarray]) -> set[str]:
    """The parameters whose gradient is not exactly zero."""
    return {name for name, gradient in found.items() if np.any(gradient)}
