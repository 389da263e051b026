"""Features that come together are stored orthogonally, features that exclude each other opposed.

1. Four features in two dimensions, in two pairs; a pair's features are always active together, or
   never are. Features of different pairs are independent.
2. Train many models, keep the best of each kind, and take the cosine within its pairs.

`--full` takes about three minutes on one core.
"""

from dataclasses import dataclass

import torch

from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys.fitting import fit
from interp.lab.toys.sampling import anticorrelated_pairs, check_density, correlated_pairs
from interp.lab.toys.superposition import Superposition, cosines
from interp.progress import Progress, silent


@dataclass(frozen=True, kw_only=True)
class Correlated(Experiment):
    """See the module."""

    name = "correlated"
    paper = "Elhage et al. 2022, Toy Models of Superposition"
    claim = "Correlated features are orthogonal to each other, anticorrelated ones antipodal."

    density: float = 0.1
    """Share of inputs in which a feature is active."""
    restarts: int = 32
    """Models of each kind, of which the best counts."""
    steps: int = 10_000
    """Optimiser steps."""
    batch: int = 1024
    """Rows a step."""
    lr: float = 3e-3
    """Peak learning rate."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        check_density(2 * self.density)

    @classmethod
    def at(cls, effort: Effort) -> "Correlated":
        """See `Experiment.at`."""
        return cls() if effort == "full" else cls(steps=2500, batch=512, lr=1e-2)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        return (
            Expected(quantity="cos of correlated", value=0.0, low=-0.1, high=0.1),
            Expected(quantity="cos of anticorrelated", value=-1.0, low=-1.1, high=-0.9),
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        kinds = {
            "cos of correlated": correlated_pairs(self.restarts, 2, self.density),
            "cos of anticorrelated": anticorrelated_pairs(self.restarts, 2, self.density),
        }
        values: dict[str, float] = {}
        figures: list[Figure] = []
        for number, (name, sample) in enumerate(kinds.items()):
            model = Superposition(self.restarts, 4, 2, seed=seed)

            def told(done: int, total: int, note: str = "", number: int = number) -> None:
                progress(done + number * total, 2 * total, note)

            losses = fit(
                model,
                sample,
                torch.ones(self.restarts, 4),
                steps=self.steps,
                batch=self.batch,
                lr=self.lr,
                seed=seed,
                progress=told,
            )
            best = int(losses.argmin())
            W = model.W.detach()
            inside = cosines(W)[best][[0, 2], [1, 3]]
            values[name] = float(inside[inside.abs().argmax()] if number == 0 else inside.max())
            columns = [(float(x), float(y)) for x, y in W[best].T]
            pairs = {"pair 0": columns[:2], "pair 1": columns[2:]}
            figures.append(
                Figure(
                    title=f"Columns of W, best model: {name.removeprefix('cos of ')} pairs",
                    kind="scatter",
                    x="hidden 0",
                    y="hidden 1",
                    series=pairs,
                )
            )
        return Measurement(values=values, figures=tuple(figures))
