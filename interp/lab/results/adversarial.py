"""Superposition makes a model attackable.

1. Train n=100 equally important features in m=20 dimensions at densities from dense to sparse,
   eight models in one batch.
2. Attack fresh rows: the step δ, ‖δ‖₂ ≤ ε, that raises ‖x'(x + δ) - x‖² most, by projected gradient
   ascent from the best of several random steps. Vulnerability is the mean rise.
3. Relative to the dense model, which has no superposition, it should exceed 3 somewhere and follow
   the features per dimension, ‖W‖²/m.

The published attack is described in words only; ε and the ascent are ours.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import reduce, repeat
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor

from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys.fitting import fit
from interp.lab.toys.sampling import check_density, independent
from interp.lab.toys.superposition import Superposition, features_per_dimension
from interp.progress import Progress, silent


@dataclass(frozen=True, kw_only=True)
class Adversarial(Experiment):
    """See the module."""

    name = "adversarial"
    paper = "Elhage et al. 2022, Toy Models of Superposition"
    claim = "Vulnerability to attack rises more than threefold with superposition, and tracks it."

    features: int = 100
    """Number of features."""
    hidden: int = 20
    """Number of dimensions."""
    inverse_densities: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0)
    """1/(1-S) of the models; the first is the baseline."""
    epsilon: float = 0.1
    """Greatest L2 length of an attack."""
    rows: int = 256
    """Rows attacked."""
    ascent: int = 30
    """Gradient steps of an attack."""
    steps: int = 20_000
    """Optimiser steps."""
    batch: int = 1024
    """Rows a step."""
    lr: float = 3e-3
    """Peak learning rate."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        check_density(*(1 / inverse for inverse in self.inverse_densities))

    @classmethod
    def at(cls, effort: Effort) -> "Adversarial":
        """See `Experiment.at`."""
        return cls() if effort == "full" else cls(seeds=1, steps=2500, batch=256, lr=1e-2)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        return (
            Expected(quantity="greatest relative vulnerability", value=3.0, low=2.5),
            Expected(quantity="rank correlation with features per dimension", value=1.0, low=0.9),
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        densities = 1 / torch.tensor(self.inverse_densities)
        models = len(densities)
        sample = independent(repeat(densities, "model -> model feature", feature=self.features))
        model = Superposition(models, self.features, self.hidden, seed=seed)
        fit(
            model,
            sample,
            torch.ones(models, self.features),
            steps=self.steps,
            batch=self.batch,
            lr=self.lr,
            seed=seed,
            progress=progress,
        )
        x = sample(self.rows, torch.Generator().manual_seed(seed + 7))
        rise = attack(model, x, self.epsilon, steps=self.ascent, seed=seed).numpy()
        relative = rise / rise[0]
        per_dimension = features_per_dimension(model.W.detach()).numpy()
        follows: Any = spearmanr(relative, per_dimension)
        lines = {"relative vulnerability": relative, "features per dimension": per_dimension}
        return Measurement(
            values={
                "greatest relative vulnerability": float(relative.max()),
                "rank correlation with features per dimension": float(follows.statistic),
            },
            figures=(
                Figure(
                    title="Vulnerability relative to the dense model, and features per dimension",
                    kind="line",
                    x="1/(1-S)",
                    y="",
                    series={
                        name: _points(self.inverse_densities, values)
                        for name, values in lines.items()
                    },
                    log=("x",),
                ),
            ),
        )


def attack(
    model: Superposition,
    x: Float[Tensor, "instance batch feature"],
    epsilon: float,
    *,
    steps: int,
    seed: int,
    starts: int = 4,
) -> Float[Tensor, " instance"]:
    """The mean rise of ‖x'(x + δ) - x‖² under the best δ found with ‖δ‖₂ ≤ epsilon.

    Args:
        model: the models.
        x: clean rows.
        epsilon: greatest length of δ.
        steps: gradient steps, each of a third of epsilon, from every start.
        seed: governs the starts.
        starts: random starts on the sphere; for each row the best end counts, and no attack
            counts as a rise of 0.
    """
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        clean = _errors(model(x), x)
    best = torch.zeros_like(clean)
    for _ in range(starts):
        delta = _onto_sphere(torch.randn(x.shape, generator=draw), epsilon)
        for _ in range(steps):
            delta.requires_grad_()
            errors = _errors(model(x + delta), x)
            (gradient,) = torch.autograd.grad(errors.sum(), delta)
            # A gradient of zero, where every output is clipped, leaves the step as it is.
            moved = delta.detach() + _onto_sphere(gradient, epsilon / 3)
            delta = _onto_sphere(moved, epsilon)
        with torch.no_grad():
            best = torch.maximum(best, _errors(model(x + delta), x) - clean)
    return best.mean(dim=1)


def _errors(
    given: Float[Tensor, "instance batch feature"], wanted: Float[Tensor, "instance batch feature"]
) -> Float[Tensor, "instance batch"]:
    return reduce((given - wanted).square(), "instance batch feature -> instance batch", "sum")


def _onto_sphere(
    rows: Float[Tensor, "instance batch feature"], radius: float
) -> Float[Tensor, "instance batch feature"]:
    return radius * rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def _points(x: tuple[float, ...], y: Float[np.ndarray, " point"]) -> list[tuple[float, ...]]:
    return [(a, float(b)) for a, b in zip(x, y, strict=True)]
