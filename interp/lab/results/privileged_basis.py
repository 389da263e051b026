"""ReLU neurons: dense features get neurons of their own, sparse ones share them.

1. Train many models of ten features of falling importance through five ReLU neurons and back by the
   same weights, x' = ReLU(Wᵀ ReLU(W x) + b), at one density after another; keep the best of each.
2. A neuron is monosemantic when one feature has most of its weights
   (`toys.computation.monosemantic`). At densities from ½ up all neurons should be, at .08 and below
   none.

Without the ReLU nothing ties features to single neurons: any rotation of W does as well.
`--full` takes about an hour and a half on one core, by the ratio of its work to the quick form's.
"""

from dataclasses import dataclass

import torch
from einops import rearrange, repeat

from interp.errors import ConfigError
from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys.computation import cells, monosemantic
from interp.lab.toys.fitting import evaluate, fit
from interp.lab.toys.sampling import check_density, independent
from interp.lab.toys.superposition import Superposition
from interp.progress import Progress, silent

DENSITIES = (1.0, 0.7, 0.5, 0.3, 0.2, 0.12, 0.08, 0.05, 0.02)
JUDGED_ROWS = 200_000
"""Losses of different solutions differ by little."""
DENSE, SPARSE = 0.5, 0.08
"""From where up all neurons are monosemantic in the paper, and from where down none."""


@dataclass(frozen=True, kw_only=True)
class PrivilegedBasis(Experiment):
    """See the module."""

    name = "privileged-basis"
    paper = "Elhage et al. 2022, Toy Models of Superposition"
    claim = "ReLU neurons are monosemantic on dense features and polysemantic on sparse ones."

    features: int = 10
    """Number of features."""
    hidden: int = 5
    """Neurons."""
    decay: float = 0.75
    """Importance of each feature over that of the one before."""
    restarts: int = 200
    """Models at each density, of which the best counts; the paper's is the best of 1,000."""
    steps: int = 5000
    """Optimiser steps."""
    batch: int = 1024
    """Rows a step."""
    lr: float = 3e-3
    """Peak learning rate."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        check_density(*DENSITIES)
        if self.restarts < 1:
            raise ConfigError(f"restarts must be at least 1, got {self.restarts}")
        if not 0 < self.decay <= 1:
            raise ConfigError(f"decay must lie above 0 and at most at 1, got {self.decay}")

    @classmethod
    def at(cls, effort: Effort) -> "PrivilegedBasis":
        """See `Experiment.at`."""
        return cls() if effort == "full" else cls(restarts=24, steps=3000, batch=256, lr=1e-2)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        return (
            Expected(quantity="monosemantic neurons, least of density 1/2 up", value=1.0, low=0.95),
            Expected(
                quantity="monosemantic neurons, most of density .08 down",
                value=0.0,
                low=0.0,
                high=0.05,
                why="at density .08 one neuron of the best model's five may still have one feature "
                "for most of its weights; at .05 none has",
            ),
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        each = repeat(torch.tensor(DENSITIES), "density -> (density r)", r=self.restarts)
        model = Superposition(
            len(each), self.features, self.hidden, seed=seed, hidden_activation="relu"
        )
        importance = self.decay ** torch.arange(self.features)
        sample = independent(repeat(each, "model -> model feature", feature=self.features))
        weights = repeat(importance, "feature -> model feature", model=len(each))
        fit(
            model,
            sample,
            weights,
            steps=self.steps,
            batch=self.batch,
            lr=self.lr,
            seed=seed,
            progress=progress,
        )
        losses = evaluate(model, sample, weights, seed=seed, rows=JUDGED_ROWS)
        best = rearrange(losses, "(density r) -> density r", r=self.restarts).argmin(dim=1)
        each_W = rearrange(model.W.detach(), "(density r) m n -> density r m n", r=self.restarts)
        W = each_W[torch.arange(len(DENSITIES)), best]
        shares = dict(zip(DENSITIES, monosemantic(W), strict=True))
        return Measurement(
            values={
                "monosemantic neurons, least of density 1/2 up": min(
                    share for density, share in shares.items() if density >= DENSE
                ),
                "monosemantic neurons, most of density .08 down": max(
                    share for density, share in shares.items() if density <= SPARSE
                ),
            },
            figures=(
                Figure(
                    title="How many living neurons of the best model are monosemantic",
                    kind="line",
                    x="density",
                    y="share of neurons",
                    series={"neurons": list(shares.items())},
                    log=("x",),
                ),
                Figure(
                    title="W of the best model",
                    kind="heatmap",
                    x="feature, by importance",
                    y="neuron, by its main feature",
                    series={
                        f"{density:g}": cells(own)
                        for density, own in zip(DENSITIES, W, strict=True)
                    },
                    slider="density",
                ),
            ),
        )
