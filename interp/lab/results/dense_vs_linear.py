"""Superposition needs sparsity and a nonlinearity.

n=20 features in m=5 dimensions, importance 0.7^i:

1. dense, ReLU: the five most important features, orthogonal, as principal components would be;
2. sparse, linear: the same five, at any sparsity;
3. sparse, ReLU: more features than dimensions.

`--full` takes about three minutes on one core.
"""

from dataclasses import dataclass

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor

from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys.fitting import fit
from interp.lab.toys.sampling import check_density, independent
from interp.lab.toys.superposition import Superposition, cosines, represented
from interp.progress import Progress, silent


@dataclass(frozen=True, kw_only=True)
class DenseVsLinear(Experiment):
    """See the module."""

    name = "dense-vs-linear"
    paper = "Elhage et al. 2022, Toy Models of Superposition"
    claim = "Dense features, or a linear model, keep the top five; sparse ReLU models keep more."

    features: int = 20
    """Number of features."""
    hidden: int = 5
    """Number of dimensions."""
    decay: float = 0.7
    """Importance of feature i is this to the power i."""
    density: float = 0.01
    """Share of inputs in which a sparse model's feature is active."""
    steps: int = 20_000
    """Optimiser steps."""
    batch: int = 1024
    """Rows a step."""
    lr: float = 3e-3
    """Peak learning rate."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        check_density(self.density)

    @classmethod
    def at(cls, effort: Effort) -> "DenseVsLinear":
        """See `Experiment.at`."""
        return cls() if effort == "full" else cls(steps=5000, batch=512, lr=1e-2)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        m = float(self.hidden)
        return (
            Expected(quantity="features, dense ReLU", value=m, low=m, high=m),
            Expected(quantity="features, dense linear", value=m, low=m, high=m),
            Expected(quantity="features, sparse linear", value=m, low=m, high=m),
            Expected(quantity="they are the top five", value=1.0, low=1.0),
            Expected(quantity="greatest |cos|, dense ReLU", value=0.0, low=0.0, high=0.1),
            Expected(quantity="features, sparse ReLU", value=float(self.features), low=m + 1),
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        found: dict[str, Tensor] = {}
        densities = torch.tensor([1.0, self.density])
        importance = self.decay ** torch.arange(self.features)
        for number, kind in enumerate(("relu", "linear")):
            model = Superposition(2, self.features, self.hidden, seed=seed, activation=kind)

            def told(done: int, total: int, note: str = "", number: int = number) -> None:
                progress(done + number * total, 2 * total, note)

            fit(
                model,
                independent(repeat(densities, "model -> model feature", feature=self.features)),
                repeat(importance, "feature -> model feature", model=2),
                steps=self.steps,
                batch=self.batch,
                lr=self.lr,
                seed=seed,
                progress=told,
            )
            found[kind] = model.W.detach()
        kept = {kind: represented(W) for kind, W in found.items()}
        few = torch.stack([kept["relu"][0], kept["linear"][0], kept["linear"][1]])
        top = torch.arange(self.features) < self.hidden
        names = (("relu", "ReLU"), ("linear", "linear"))
        return Measurement(
            values={
                f"features, {density} {name}": float(kept[kind][row].sum())
                for kind, name in names
                for row, density in enumerate(("dense", "sparse"))
            }
            | {
                "they are the top five": float((few == top).all()),
                "greatest |cos|, dense ReLU": _greatest(found["relu"][:1]),
            },
            figures=(
                Figure(
                    title="How long each feature's column is",
                    kind="line",
                    x="feature, by importance",
                    y="‖W_i‖",
                    series={
                        f"{density} {name}": [
                            (float(i), float(n)) for i, n in enumerate(found[kind][row].norm(dim=0))
                        ]
                        for kind, name in names
                        for row, density in enumerate(("dense", "sparse"))
                    },
                ),
            ),
        )


def _greatest(W: Float[Tensor, "one hidden feature"]) -> float:
    """The greatest |cos| between two represented features."""
    kept = represented(W)[0]
    among = cosines(W)[0][kept][:, kept].abs()
    return float((among - torch.eye(len(among))).max()) if len(among) > 1 else 0.0
