"""However sparse the features, their dimensionalities add up to the dimensions there are.

1. Train n=80 features in m=10 dimensions at densities from 1/2 to 1/20, ten models in one batch.
2. D_i = ‖W_i‖² / Σ_j (Ŵ_i · W_j)²; the sum over features should be m at every density.

`--full` takes about six minutes on one core.
"""

from dataclasses import dataclass

import torch
from einops import repeat

from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys.fitting import fit
from interp.lab.toys.sampling import check_density, independent
from interp.lab.toys.superposition import Superposition, dimensionality, features_per_dimension
from interp.progress import Progress, silent


@dataclass(frozen=True, kw_only=True)
class Dimensions(Experiment):
    """See the module."""

    name = "dimensions"
    paper = "Elhage et al. 2022, Toy Models of Superposition"
    claim = "The features' dimensionalities add up to the number of dimensions, at every density."

    features: int = 80
    """Number of features."""
    hidden: int = 10
    """Number of dimensions."""
    inverse_densities: tuple[float, ...] = (2.0, 3.0, 5.0, 10.0, 20.0)
    """1/(1-S) of the models."""
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
    def at(cls, effort: Effort) -> "Dimensions":
        """See `Experiment.at`."""
        return cls() if effort == "full" else cls(seeds=2, steps=4000, batch=256, lr=1e-2)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        m = float(self.hidden)
        return (
            Expected(quantity="least sum of D", value=m, low=m - 0.1, high=m + 0.1),
            Expected(quantity="greatest sum of D", value=m, low=m - 0.1, high=m + 0.1),
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        densities = 1 / torch.tensor(self.inverse_densities)
        models = len(densities)
        model = Superposition(models, self.features, self.hidden, seed=seed)
        fit(
            model,
            independent(repeat(densities, "model -> model feature", feature=self.features)),
            torch.ones(models, self.features),
            steps=self.steps,
            batch=self.batch,
            lr=self.lr,
            seed=seed,
            progress=progress,
        )
        W = model.W.detach()
        shares = dimensionality(W)
        sums = shares.sum(dim=1)
        per_dimension = features_per_dimension(W)
        lines = [
            (inverse, float(share))
            for inverse, row in zip(self.inverse_densities, shares, strict=True)
            for share in row
        ]
        whole = [
            (inverse, float(1 / each))
            for inverse, each in zip(self.inverse_densities, per_dimension, strict=True)
        ]
        return Measurement(
            values={"least sum of D": float(sums.min()), "greatest sum of D": float(sums.max())},
            figures=(
                Figure(
                    title="Dimensionality of every feature, and D* = m/‖W‖²",
                    kind="scatter",
                    x="1/(1-S)",
                    y="dimensionality",
                    series={"features": lines, "D*": whole},
                    log=("x",),
                ),
            ),
        )
