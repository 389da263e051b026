"""Two features in one dimension: which are stored follows the least of three closed-form losses.

The second feature has importance I, the first 1; both are active with density p. With W = [1, 0]
the other's best constant guess is its mean, with W = [1, -1] only rows with both active cost:

    first alone     I (p/3 - p²/4)
    second alone      (p/3 - p²/4)
    antipodal       (1 + I) p² / 6

1. Train several models at each density and importance, keep the one of least loss.
2. Its phase is which features are represented; compare with the least closed form.

`--full` takes about 75 minutes on one core.
"""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float, Int

from interp.errors import ConfigError
from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys.fitting import fit
from interp.lab.toys.sampling import check_density, independent
from interp.lab.toys.superposition import Superposition, represented
from interp.progress import Progress, silent

PHASES = ("neither", "first alone", "second alone", "antipodal")


@dataclass(frozen=True, kw_only=True)
class PhaseDiagram(Experiment):
    """See the module."""

    name = "phase-diagram"
    paper = "Elhage et al. 2022, Toy Models of Superposition"
    claim = "Density and importance decide which of two features one dimension holds, as computed."

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
        return cls() if effort == "full" else cls(cells=10, restarts=4, steps=1500, batch=512)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        return (Expected(quantity="cells in the computed phase", value=1.0, low=0.9),)

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        density = np.logspace(0, -2, self.cells)
        importance = np.logspace(-1, 1, self.cells)
        p, weight = (axis.ravel() for axis in np.meshgrid(density, importance, indexing="ij"))
        computed = phases(p, weight)
        check_density(*density)
        models = len(p) * self.restarts
        each = repeat(torch.from_numpy(p).float(), "cell -> (cell r) two", r=self.restarts, two=2)
        weights = torch.ones(models, 2)
        weights[:, 1] = repeat(
            torch.from_numpy(weight).float(), "cell -> (cell r)", r=self.restarts
        )
        model = Superposition(models, 2, 1, seed=seed)
        losses = fit(
            model,
            independent(each),
            weights,
            steps=self.steps,
            batch=self.batch,
            lr=self.lr,
            seed=seed,
            progress=progress,
        )
        best = rearrange(losses, "(cell r) -> cell r", r=self.restarts).argmin(dim=1)
        kept = rearrange(
            represented(model.W.detach()), "(cell r) two -> cell r two", r=self.restarts
        )[torch.arange(len(p)), best]
        trained = (kept[:, 0] + 2 * kept[:, 1].long()).numpy()
        return Measurement(
            values={"cells in the computed phase": float(np.mean(trained == computed))},
            figures=tuple(
                Figure(
                    title=f"Phase, {title}: {', '.join(f'{i} {n}' for i, n in enumerate(PHASES))}",
                    kind="heatmap",
                    x="density",
                    y="importance of the second feature",
                    series={
                        "phase": [
                            (float(a), float(b), float(c))
                            for a, b, c in zip(p, weight, found, strict=True)
                        ]
                    },
                    log=("x", "y"),
                )
                for title, found in (("trained", trained), ("computed", computed))
            ),
        )


def phases(
    density: Float[np.ndarray, " cell"], importance: Float[np.ndarray, " cell"]
) -> Int[np.ndarray, " cell"]:
    """The phase of least loss by the closed forms, an index of `PHASES`."""
    guessed = density / 3 - density**2 / 4
    losses = np.stack([importance * guessed, guessed, (1 + importance) * density**2 / 6])
    return losses.argmin(axis=0) + 1
