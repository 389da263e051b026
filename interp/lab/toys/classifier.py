"""One net under several objectives: what is the loss's doing, and what the output's?

    h = gate(W_in x),   z = W_out h + b,   y = which one is right, as ones and zeros

    cross-entropy   -Σ y log softmax(z)
    brier           Σ (y - softmax(z))²         the same outputs, squared error
    relu            Σ (y - ReLU(z))²            as in "Toy Models of Superposition"
    linear          Σ (y - z)²

The gate is one of: none (a bottleneck), ReLU neurons, or the one strongest ReLU neuron alone, with
which superposition is impossible. Instances share nothing but the clock, as in
`interp.lab.toys.superposition`; those of one seed and different objectives start alike and see the
same rows.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from einops import einsum, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from interp.errors import ConfigError, DataError

Objective = Literal["cross-entropy", "brier", "relu", "linear"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
Gate = Literal["none", "relu", "strongest"]


class Classifier(HookedRootModule):
    """Nets ``[instance]``; ``[objective restart]`` flattened, if there are several objectives."""

    def __init__(
        self,
        objectives: int,
        restarts: int,
        inputs: int,
        hidden: int,
        outputs: int,
        *,
        gate: Gate,
        seed: int = 0,
    ) -> None:
        """Normal weights of variance 1 / fan-in, the same for every objective; no bias.

        Raises:
            ConfigError: a size is below 1.
        """
        super().__init__()
        if min(objectives, restarts, inputs, hidden, outputs) < 1:
            raise ConfigError("objectives, restarts, inputs, hidden and outputs must be at least 1")
        draw = torch.Generator().manual_seed(seed)

        def weights(rows: int, fan: int) -> nn.Parameter:
            one = torch.randn(restarts, rows, fan, generator=draw) / fan**0.5
            return nn.Parameter(
                repeat(one, "restart r f -> (objective restart) r f", objective=objectives).clone()
            )

        self.W_in = weights(hidden, inputs)
        self.W_out = weights(outputs, hidden)
        self.b = nn.Parameter(torch.zeros(objectives * restarts, outputs))
        self.gate = gate
        self.hook_hidden = HookPoint()
        self.hook_out = HookPoint()
        self.setup()

    def forward(self, x: Float[Tensor, "batch input"]) -> Float[Tensor, "instance batch output"]:
        """Each instance's outputs z for the same rows."""
        h = einsum(x, self.W_in, "batch input, instance hidden input -> instance batch hidden")
        if self.gate != "none":
            h = torch.relu(h)
        if self.gate == "strongest":
            h = h * one_hot(h.argmax(dim=-1), h.shape[-1])
        z = einsum(
            self.hook_hidden(h),
            self.W_out,
            "instance batch hidden, instance output hidden -> instance batch output",
        )
        return self.hook_out(z + self.b[:, None])


def shares(
    z: Float[Tensor, "*batch output"], objective: Objective
) -> Float[Tensor, "*batch output"]:
    """What the objective compares with ones and zeros: z after its output function."""
    if objective in ("cross-entropy", "brier"):
        return z.softmax(dim=-1)
    return torch.relu(z) if objective == "relu" else z


def loss(
    z: Float[Tensor, "restart batch output"],
    label: Int[Tensor, " batch"],
    objective: Objective,
) -> Float[Tensor, " restart"]:
    """The mean loss of each restart over the rows."""
    if objective == "cross-entropy":
        labels = repeat(label, "batch -> restart batch", restart=len(z))
        return cross_entropy(z.transpose(1, 2), labels, reduction="none").mean(dim=1)
    wanted = one_hot(label, z.shape[-1]).to(z)
    return (shares(z, objective) - wanted).square().sum(dim=-1).mean(dim=1)


def train(
    model: Classifier,
    rows: Callable[[int], tuple[Tensor, Tensor]],
    *,
    steps: int,
    lr: float,
) -> Float[Tensor, "objective restart"]:
    """Train every instance in place under its objective: Adam, falling to zero on a straight line.

    Args:
        model: with as many objectives as `OBJECTIVES`.
        rows: gives ``x [batch, input]`` and ``label [batch]`` of a step.
        steps: optimiser steps.
        lr: first learning rate.

    Returns:
        The loss of the last step's rows.

    Raises:
        DataError: the training diverged.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    last = torch.zeros(())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        x, label = rows(step)
        parts = model(x).chunk(len(OBJECTIVES))
        last = torch.stack(
            [loss(z, label, each) for z, each in zip(parts, OBJECTIVES, strict=True)]
        )
        optimizer.zero_grad()
        last.sum().backward()
        optimizer.step()
    if not torch.isfinite(last).all():
        raise DataError("the loss is no number; lower lr")
    return last.detach()


@torch.no_grad()
def told_apart(model: Classifier, features: int) -> Float[Tensor, "objective restart"]:
    """How many features' outputs, and no others, are above ½ when a feature is active alone."""
    parts = model(torch.eye(features)).chunk(len(OBJECTIVES))
    counts: list[Tensor] = []
    for z, objective in zip(parts, OBJECTIVES, strict=True):
        above = shares(z, objective) > 0.5
        alone = (above == torch.eye(features, dtype=torch.bool)).all(dim=-1)
        counts.append(alone.double().sum(dim=-1))
    return torch.stack(counts)


def effective_number(
    weights: Float[Tensor, "*batch item"],
) -> Float[Tensor, "*batch"]:
    """How many items share the weight, (Σ w)² / Σ w² of w ≥ 0; 0 where there is no weight."""
    sums, squares = weights.sum(dim=-1), weights.square().sum(dim=-1)
    return torch.where(squares > 0, sums.square() / squares.clamp_min(1e-30), 0.0)
