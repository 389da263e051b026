"""Train batched toy models on fresh samples: Adam, learning rate falling to zero on a cosine."""

import math
from collections.abc import Callable

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from interp.errors import DataError
from interp.lab.toys.sampling import Sampler
from interp.progress import Progress, silent

EVALUATION_ROWS = 20_000
_CHUNK = 2_000


def _same(x: Tensor) -> Tensor:
    return x


def fit(
    model: nn.Module,
    sample: Sampler,
    importance: Float[Tensor, "instance feature"],
    *,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    target: Callable[[Tensor], Tensor] = _same,
    progress: Progress = silent,
) -> Float[Tensor, " instance"]:
    """Train in place, each instance on rows of its own.

    Args:
        model: takes and gives ``[instance, batch, feature]``.
        sample: draws such rows.
        importance: the weight of each feature's squared error.
        steps: optimiser steps.
        batch: rows a step, for every instance.
        lr: peak learning rate.
        seed: governs the rows.
        target: what the model should make of its input; by default the input.
        progress: told the steps done.

    Returns:
        The loss of each instance on fresh rows.

    Raises:
        DataError: the training diverged.
    """
    draw = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        x = sample(batch, draw)
        loss = _losses(model(x), target(x), importance).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            progress(step, steps)
    progress(steps, steps)
    return evaluate(model, sample, importance, seed=seed, target=target)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    sample: Sampler,
    importance: Float[Tensor, "instance feature"],
    *,
    seed: int,
    rows: int = EVALUATION_ROWS,
    target: Callable[[Tensor], Tensor] = _same,
) -> Float[Tensor, " instance"]:
    """The loss of each instance on rows it was not trained on.

    Raises:
        DataError: it is no number.
    """
    draw = torch.Generator().manual_seed(seed + 1_000_003)
    chunks = max(1, rows // _CHUNK)
    total = torch.zeros(len(importance))
    for _ in range(chunks):
        x = sample(min(rows, _CHUNK), draw)
        total += _losses(model(x), target(x), importance)
    if not torch.isfinite(total).all():
        raise DataError("the toy model's loss is no number; lower its lr")
    return total / chunks


def _losses(
    given: Float[Tensor, "instance batch feature"],
    wanted: Float[Tensor, "instance batch feature"],
    importance: Float[Tensor, "instance feature"],
) -> Float[Tensor, " instance"]:
    weighted = (given - wanted).square() * importance[:, None]
    return reduce(weighted, "instance batch feature -> instance batch", "sum").mean(dim=1)
