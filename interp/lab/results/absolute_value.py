"""Computing |x| gives each feature two neurons of its own, one for each sign.

1. Three dense features through six hidden ReLU neurons, target |x|; several models, keep the best.
2. Every neuron should read one feature, and every feature have one neuron that reads it with a
   positive weight and one with a negative.

`--full` takes about a minute on one core.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ConfigError
from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys.computation import Computation, primary_share
from interp.lab.toys.fitting import fit
from interp.lab.toys.sampling import check_density, independent
from interp.progress import Progress, silent


@dataclass(frozen=True, kw_only=True)
class AbsoluteValue(Experiment):
    """See the module."""

    name = "absolute-value"
    paper = "Elhage et al. 2022, Toy Models of Superposition"
    claim = "A net that computes |x| with neurons to spare gives each feature two, one a sign."

    features: int = 3
    """Number of features."""
    density: float = 1.0
    """Share of inputs in which a feature is active."""
    restarts: int = 20
    """Models, of which the best counts."""
    steps: int = 10_000
    """Optimiser steps."""
    batch: int = 1024
    """Rows a step."""
    lr: float = 3e-3
    """Peak learning rate."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        check_density(self.density)
        if self.features < 1 or self.restarts < 1:
            raise ConfigError(
                f"features and restarts must be at least 1, got {self.features} and {self.restarts}"
            )

    @classmethod
    def at(cls, effort: Effort) -> "AbsoluteValue":
        """See `Experiment.at`."""
        return cls() if effort == "full" else cls(steps=4000, batch=256, lr=1e-2)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        return (
            Expected(quantity="features with one neuron a sign", value=3.0, low=3.0, high=3.0),
            Expected(quantity="least share of a neuron's main feature", value=1.0, low=0.9),
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        model = Computation(self.restarts, self.features, 2 * self.features, seed=seed)
        losses = fit(
            model,
            independent(torch.full((self.restarts, self.features), self.density), signed=True),
            torch.ones(self.restarts, self.features),
            steps=self.steps,
            batch=self.batch,
            lr=self.lr,
            seed=seed,
            target=torch.abs,
            progress=progress,
        )
        best = int(losses.argmin())
        W = model.W_in.detach()[best]
        cells = [
            (float(feature), float(neuron), float(W[neuron, feature]))
            for neuron in range(W.shape[0])
            for feature in range(W.shape[1])
        ]
        return Measurement(
            values={
                "features with one neuron a sign": float(motifs(W)),
                "least share of a neuron's main feature": float(primary_share(W[None]).min()),
            },
            figures=(
                Figure(
                    title="Input weights, best model",
                    kind="heatmap",
                    x="feature",
                    y="neuron",
                    series={"weight": cells},
                ),
            ),
        )


def motifs(W: Float[Tensor, "hidden feature"]) -> int:
    """Features that are the main one of exactly two neurons, whose weights have opposite signs."""
    main = W.abs().argmax(dim=1)
    signs = torch.sign(W.gather(1, main[:, None])[:, 0])
    alive = W.abs().amax(dim=1) > 0.1 * W.abs().max()
    found = 0
    for feature in range(W.shape[1]):
        own = signs[(main == feature) & alive]
        found += len(own) == 2 and float(own.sum()) == 0
    return found
