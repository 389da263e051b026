"""At moderate sparsity nearly every feature has half a dimension: antipodal pairs.

1. Train n=80 features in m=10 dimensions at 1/(1-S) = 3, several models.
2. D* = m/‖W‖² over a model should be near ½, and nearly every represented feature's D_i too.

`--full` takes about six minutes on one core.
"""

from dataclasses import dataclass

import torch

from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys.fitting import fit
from interp.lab.toys.sampling import check_density, independent
from interp.lab.toys.superposition import (
    Superposition,
    dimensionality,
    features_per_dimension,
    represented,
)
from interp.progress import Progress, silent


@dataclass(frozen=True, kw_only=True)
class Plateau(Experiment):
    """See the module."""

    name = "plateau"
    paper = "Elhage et al. 2022, Toy Models of Superposition"
    claim = "Where features are moderately sparse they form antipodal pairs: D = 1/2 for each."

    features: int = 80
    """Number of features."""
    hidden: int = 10
    """Number of dimensions."""
    inverse_density: float = 3.0
    """1/(1-S)."""
    models: int = 4
    """Models trained at once, averaged."""
    within: float = 0.05
    """A feature's D counts as ½ within this."""
    steps: int = 20_000
    """Optimiser steps."""
    batch: int = 1024
    """Rows a step."""
    lr: float = 3e-3
    """Peak learning rate."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        check_density(1 / self.inverse_density)

    @classmethod
    def at(cls, effort: Effort) -> "Plateau":
        """See `Experiment.at`."""
        return cls() if effort == "full" else cls(seeds=2, steps=4000, batch=256, lr=1e-2)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        return (
            Expected(quantity="D*", value=0.518, low=0.488, high=0.548),
            Expected(quantity="share of features at 1/2", value=1.0, low=0.9),
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        model = Superposition(self.models, self.features, self.hidden, seed=seed)
        fit(
            model,
            independent(torch.full((self.models, self.features), 1 / self.inverse_density)),
            torch.ones(self.models, self.features),
            steps=self.steps,
            batch=self.batch,
            lr=self.lr,
            seed=seed,
            progress=progress,
        )
        W = model.W.detach()
        shares = dimensionality(W)[represented(W)]
        half = (shares - 0.5).abs() <= self.within
        ordered = shares.sort(descending=True).values.tolist()
        return Measurement(
            values={
                "D*": float((1 / features_per_dimension(W)).mean()),
                "share of features at 1/2": float(half.double().mean()),
            },
            figures=(
                Figure(
                    title="Dimensionality of the represented features, sorted",
                    kind="line",
                    x="feature",
                    y="dimensionality",
                    series={"features": [(float(i), float(d)) for i, d in enumerate(ordered)]},
                ),
            ),
        )
