"""One feature too many: which are stored follows the least of four closed-form losses.

Of n features in n-1 dimensions the last has importance I, the others 1; all are active with density
p. What is left out costs its variance with the best constant guess, and of two antipodal features
only rows with both active cost:

    the last left out           I (p/3 - p²/4)
    another left out              (p/3 - p²/4)
    the last shares a dimension (1 + I) p²/6
    two others share one             2 p²/6       where there are two others

1. Train several models at each density and importance, n = 2 and n = 3; keep those of least loss.
2. Their phases are read off the columns of W; compare with the least closed form.

`--full` takes under three hours on one core.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange, reduce, repeat
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import ConfigError
from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys.fitting import fit
from interp.lab.toys.sampling import check_density, independent
from interp.lab.toys.superposition import Superposition, cosines, represented
from interp.progress import Part, Progress, silent

PHASES = ("none of these", "last left out", "another left out", "last shares", "others share")
FEATURES = (2, 3)
"""Of the two diagrams, as in the paper."""
_ANTIPODAL = -0.75
"""Columns at a lower cosine share a dimension; those of a triangle, at -½, do not."""


@dataclass(frozen=True, kw_only=True)
class PhaseDiagram(Experiment):
    """See the module."""

    name = "phase-diagram"
    paper = "Elhage et al. 2022, Toy Models of Superposition"
    claim = "Density and importance decide which features are stored, and how, as computed."

    cells: int = 20
    """Densities, 1 to 1/100, and importances, 1/10 to 10, on logarithmic axes."""
    restarts: int = 10
    """Models a cell, of which the best counts."""
    steps: int = 5000
    """Optimiser steps."""
    batch: int = 1024
    """Rows a step."""
    lr: float = 1e-2
    """Peak learning rate."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        if self.cells < 2 or self.restarts < 1:
            raise ConfigError(
                f"cells must be at least 2 and restarts at least 1, got {self.cells} and "
                f"{self.restarts}"
            )

    @classmethod
    def at(cls, effort: Effort) -> "PhaseDiagram":
        """See `Experiment.at`."""
        return cls() if effort == "full" else cls(seeds=2, cells=10, steps=1500, batch=256)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        return tuple(
            Expected(
                quantity=_quantity(features),
                value=1.0,
                low=0.9,
                why="where features are dense, antipodal columns of other lengths with biases "
                "cost up to 11 % less than the unit columns of the closed form, and win cells that "
                "it gives to leaving one out",
            )
            for features in FEATURES
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        axes = np.logspace(0, -2, self.cells), np.logspace(-1, 1, self.cells)
        density, importance = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
        check_density(*density)
        values: dict[str, float] = {}
        drawn: dict[str, list[tuple[float, ...]]] = {}
        for number, features in enumerate(FEATURES):
            part = Part(progress, number, len(FEATURES))
            trained = self._trained(density, importance, features, seed, part)
            computed = computed_phases(density, importance, features)
            values[_quantity(features)] = float(np.mean(trained == computed))
            for title, found in (("trained", trained), ("computed", computed)):
                cells = np.stack([density, importance, found], axis=1)
                drawn[f"n = {features}, {title}"] = [tuple(cell) for cell in cells.tolist()]
        return Measurement(
            values=values,
            figures=(
                Figure(
                    title=f"Phase: {', '.join(f'{i} {name}' for i, name in enumerate(PHASES))}",
                    kind="heatmap",
                    x="density",
                    y="importance of the last feature",
                    series=drawn,
                    log=("x", "y"),
                    slider="diagram",
                ),
            ),
        )

    def _trained(
        self,
        density: Float[np.ndarray, " cell"],
        importance: Float[np.ndarray, " cell"],
        features: int,
        seed: int,
        progress: Progress,
    ) -> Int[np.ndarray, " cell"]:
        """The phase of each cell's best model."""
        p, weight = (torch.from_numpy(each).float() for each in (density, importance))
        models = len(p) * self.restarts
        weights = torch.ones(models, features)
        weights[:, -1] = repeat(weight, "cell -> (cell r)", r=self.restarts)
        model = Superposition(models, features, features - 1, seed=seed)
        each = repeat(p, "cell -> (cell r) n", r=self.restarts, n=features)
        fit(
            model,
            independent(each),
            weights,
            steps=self.steps,
            batch=self.batch,
            lr=self.lr,
            seed=seed,
            progress=progress,
        )
        losses = expected_losses(model, each[:, 0], weights, seed=seed)
        best = rearrange(losses, "(cell r) -> cell r", r=self.restarts).argmin(dim=1)
        W = rearrange(model.W.detach(), "(cell r) m n -> cell r m n", r=self.restarts)
        return trained_phases(W[torch.arange(len(p)), best])


def _quantity(features: int) -> str:
    return f"cells in the computed phase, n={features} m={features - 1}"


@torch.no_grad()
def expected_losses(
    model: Superposition,
    density: Float[Tensor, " instance"],
    importance: Float[Tensor, "instance feature"],
    *,
    seed: int,
    rows: int = 500,
) -> Float[Tensor, " instance"]:
    """Mean losses over drawn values, of every set of active features, weighed by its probability.

    Rows drawn as for training would hardly ever have two active features where these are rare,
    and phases differ in nothing else.
    """
    features = importance.shape[1]
    draw = torch.Generator().manual_seed(seed)
    values = torch.rand(rows, features, generator=draw)
    total = torch.zeros(len(density))
    for active in itertools.product((0.0, 1.0), repeat=features):
        x = (values * torch.tensor(active)).expand(len(density), -1, -1)
        error = reduce((model(x) - x).square(), "instance row feature -> instance feature", "mean")
        count = sum(active)
        chance = density**count * (1 - density) ** (features - count)
        total += chance * (error * importance).sum(dim=1)
    return total


def computed_phases(
    density: Float[np.ndarray, " cell"], importance: Float[np.ndarray, " cell"], features: int
) -> Int[np.ndarray, " cell"]:
    """The phase of least loss by the closed forms, an index of `PHASES`."""
    guessed = density / 3 - density**2 / 4
    shared = density**2 / 6
    losses = [importance * guessed, guessed, (1 + importance) * shared]
    if features > 2:
        losses.append(2 * shared)
    return np.stack(losses).argmin(axis=0) + 1


def trained_phases(W: Float[Tensor, "cell hidden feature"]) -> Int[np.ndarray, " cell"]:
    """The phase that each model's columns show, an index of `PHASES`."""
    kept = represented(W)
    pairs = (cosines(W) < _ANTIPODAL) & kept[:, None] & kept[:, :, None]
    last_shares = pairs[:, -1].any(dim=-1)
    shared = pairs.flatten(1).any(dim=-1)
    left_out = (~kept).sum(dim=1)
    phase = torch.zeros(len(W), dtype=torch.long)
    phase[(left_out == 1) & ~shared] = 2
    phase[(left_out == 1) & ~shared & ~kept[:, -1]] = 1
    phase[(left_out == 0) & shared] = 4
    phase[(left_out == 0) & last_shares] = 3
    return phase.numpy()
