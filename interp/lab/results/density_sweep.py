"""Neurons that compute turn from monosemantic to polysemantic as their features grow sparser.

1. Train 100 features of falling importance through 40 hidden ReLU neurons, target |x|, at one
   density after another (`toys.computation`).
2. A neuron is monosemantic when one feature has most of its input weights
   (`toys.computation.monosemantic`).
3. Dense, all neurons should be monosemantic, sparse none, and in between the fewer the sparser.

The quick form trains for 8,000 steps: after 4,000 the dense model had not settled (92.5 % of its
neurons monosemantic).
`--full` takes about 15 minutes on one core, by the ratio of its work to the quick form's.
"""

from dataclasses import dataclass
from typing import Any

import torch
from einops import repeat
from scipy.stats import spearmanr

from interp.errors import ConfigError
from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys.computation import (
    Computation,
    cells,
    features_per_neuron,
    living,
    monosemantic,
)
from interp.lab.toys.fitting import fit
from interp.lab.toys.sampling import check_density, independent
from interp.progress import Progress, silent

DENSITIES = (1.0, 0.5, 0.3, 0.1, 0.05, 0.03, 0.01, 0.003, 0.001)
SHOWN = 30
"""Most important features of the second figure."""


@dataclass(frozen=True, kw_only=True)
class DensitySweep(Experiment):
    """See the module."""

    name = "density-sweep"
    paper = "Elhage et al. 2022, Toy Models of Superposition"
    claim = "Neurons that compute |x| are monosemantic on dense features, polysemantic on sparse."

    features: int = 100
    """Number of features."""
    hidden: int = 40
    """Neurons."""
    decay: float = 0.8
    """Importance of each feature over that of the one before."""
    steps: int = 20_000
    """Optimiser steps."""
    batch: int = 1024
    """Rows a step."""
    lr: float = 3e-3
    """Peak learning rate."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        check_density(*DENSITIES)
        if not 0 < self.decay <= 1:
            raise ConfigError(f"decay must lie above 0 and at most at 1, got {self.decay}")

    @classmethod
    def at(cls, effort: Effort) -> "DensitySweep":
        """See `Experiment.at`."""
        return cls() if effort == "full" else cls(seeds=1, steps=8000, batch=512, lr=1e-2)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        return (
            Expected(quantity="monosemantic neurons, density 1", value=1.0, low=0.95),
            Expected(quantity="monosemantic neurons, density .001", value=0.0, low=0.0, high=0.05),
            Expected(quantity="rank correlation with density", value=1.0, low=0.9),
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        models = len(DENSITIES)
        model = Computation(models, self.features, self.hidden, seed=seed)
        importance = self.decay ** torch.arange(self.features)
        density = repeat(torch.tensor(DENSITIES), "model -> model feature", feature=self.features)
        fit(
            model,
            independent(density, signed=True),
            repeat(importance, "feature -> model feature", model=models),
            steps=self.steps,
            batch=self.batch,
            lr=self.lr,
            seed=seed,
            target=torch.abs,
            progress=progress,
        )
        W = model.W_in.detach()
        alive, shares = living(W), monosemantic(W)
        read = [
            float(own[some].median()) if some.any() else float("nan")
            for own, some in zip(features_per_neuron(W), alive, strict=True)
        ]
        follows: Any = spearmanr(DENSITIES, shares)
        return Measurement(
            values={
                "monosemantic neurons, density 1": shares[0],
                "monosemantic neurons, density .001": shares[-1],
                "rank correlation with density": float(follows.statistic),
                "living neurons, density .001": float(alive[-1].sum()),
                "features per neuron, density 1": read[0],
                "features per neuron, density .001": read[-1],
            },
            figures=(
                Figure(
                    title="How many living neurons are monosemantic",
                    kind="line",
                    x="density",
                    y="share of neurons",
                    series={"neurons": list(zip(DENSITIES, shares, strict=True))},
                    log=("x",),
                ),
                Figure(
                    title="Features that the median living neuron reads",
                    kind="line",
                    x="density",
                    y="features",
                    series={"neurons": list(zip(DENSITIES, read, strict=True))},
                    log=("x",),
                ),
                Figure(
                    title=f"Input weights, the {SHOWN} most important features",
                    kind="heatmap",
                    x="feature",
                    y="neuron, by its main feature",
                    series={
                        f"{p:g}": cells(each)
                        for p, each in zip(DENSITIES, W[..., :SHOWN], strict=True)
                    },
                    slider="density",
                ),
            ),
        )
