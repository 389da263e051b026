"""Programs that print "explained variance" mean different numbers by it.

One reconstruction, whose true fraction of variance explained is .81, of data at several scales and
means. With x̂ of x, d dimensions:

    FVE                  1 - E‖x - x̂‖² / (E‖x‖² - ‖E x‖²)        centred; printed by this project
    SAEBench             1 - E‖x - x̂‖² / (E‖x‖² - (E‖x‖²/d)²)    its formula at commit 8042bb3
    dictionary_learning  1 - Σ_d Var(x_d - x̂_d) / Σ_d Var(x_d)   blind to a constant error
    uncentred            1 - E‖x - x̂‖² / E‖x‖²                   rewards a large mean

1. x = s (μ + ε) with ε standard normal; x̂ shrinks ε by 0.6 and adds a constant error of 3 % of the
   variance, so the four formulas can be solved on paper for any s and ‖μ‖²/d.
2. The cases are those where, on paper, SAEBench's formula gives its reported extremes, -.81 and
   1.05, and the uncentred one gives .97.

`--full` takes some seconds on one core.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32

from interp.errors import ConfigError
from interp.evaluate.truth import judge
from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.progress import Progress, silent
from interp.sae import Dictionary, Origin, TopK

_KEPT, _CONSTANT = 0.6, 0.03
_UNEXPLAINED = (1 - _KEPT) ** 2 + _CONSTANT


@dataclass(frozen=True, kw_only=True)
class FveDefinitions(Experiment):
    """See the module."""

    name = "fve-definitions"
    paper = "definitions in SAEBench, dictionary_learning and the normalised MSE of Gao et al. 2024"
    claim = "One reconstruction explains .81 of the variance, or -.81, or 1.05, by the definition."

    d_in: int = 64
    """Width of a row."""
    rows: int = 100_000
    """Rows of each case."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        if self.d_in < 2 or self.rows < 2:
            raise ConfigError(f"d_in and rows must be at least 2, got {self.d_in} and {self.rows}")

    @classmethod
    def at(cls, effort: Effort) -> "FveDefinitions":
        """See `Experiment.at`."""
        return cls() if effort == "full" else cls(rows=40_000)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        return (
            Expected(quantity="FVE, least", value=0.81, low=0.80, high=0.82),
            Expected(quantity="FVE, greatest", value=0.81, low=0.80, high=0.82),
            Expected(quantity="SAEBench, least", value=-0.81, low=-0.91, high=-0.71),
            Expected(quantity="SAEBench, greatest", value=1.05, low=1.04, high=1.06),
            Expected(quantity="dictionary_learning", value=0.84, low=0.83, high=0.85),
            Expected(quantity="uncentred, greatest", value=0.97, low=0.96, high=0.98),
        )

    def cases(self) -> dict[str, tuple[float, float]]:
        """Scale s and squared mean ‖μ‖²/d of each case.

        SAEBench's formula at μ = 0 is 1 - u / (1 - s²/d) with u = .19 unexplained, so it gives v at
        s² = d (1 - u / (1 - v)).
        """

        def scale(value: float) -> float:
            return (self.d_in * (1 - _UNEXPLAINED / (1 - value))) ** 0.5

        return {
            "small, centred": (0.1, 0.0),
            "large, centred": (scale(-0.81), 0.0),
            "larger, centred": (scale(1.05), 0.0),
            "small, far from 0": (0.1, _UNEXPLAINED / (1 - 0.97) - 1),
        }

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        found: dict[str, dict[str, float]] = {}
        draw = np.random.default_rng([seed, 23])
        for number, (case, (scale, mean)) in enumerate(self.cases().items()):
            centre = np.full(self.d_in, scale * mean**0.5)
            noise = scale * draw.standard_normal((self.rows, self.d_in))
            x = (centre + noise).astype(np.float32)
            error = np.full(self.d_in, scale * _CONSTANT**0.5)
            found[case] = definitions(_shrinking(centre, error), x)
            progress(number + 1, len(self.cases()))
        by_name = {
            name: [case[name] for case in found.values()] for name in next(iter(found.values()))
        }
        return Measurement(
            values={
                "FVE, least": min(by_name["FVE"]),
                "FVE, greatest": max(by_name["FVE"]),
                "SAEBench, least": min(by_name["SAEBench"]),
                "SAEBench, greatest": max(by_name["SAEBench"]),
                "dictionary_learning": float(np.mean(by_name["dictionary_learning"])),
                "uncentred, greatest": max(by_name["uncentred"]),
            },
            figures=(
                Figure(
                    title=f"By definition: {', '.join(f'{i} {c}' for i, c in enumerate(found))}",
                    kind="scatter",
                    x="case",
                    y="explained",
                    series={
                        name: [(float(i), value) for i, value in enumerate(values)]
                        for name, values in by_name.items()
                    },
                ),
            ),
        )


def definitions(dictionary: Dictionary, x: Float32[np.ndarray, "row d_in"]) -> dict[str, float]:
    """What each definition says of a dictionary on rows; ``FVE`` is this project's own."""
    always = np.ones((len(x), 1), np.float32)  # codes play no part in the FVE
    own = judge(dictionary, np.eye(1, x.shape[1], dtype=np.float32), [(x, always)])
    with torch.inference_mode():
        back = dictionary(torch.from_numpy(x)).numpy().astype(np.float64)
    residual = x - back
    error = float(np.square(residual).sum(axis=1).mean())
    squares = float(np.square(x, dtype=np.float64).sum(axis=1).mean())
    return {
        "FVE": own.fve,
        "SAEBench": 1 - error / (squares - (squares / x.shape[1]) ** 2),
        "dictionary_learning": 1
        - float(residual.var(axis=0).sum() / x.astype(np.float64).var(axis=0).sum()),
        "uncentred": 1 - error / squares,
    }


def _shrinking(centre: np.ndarray, error: np.ndarray) -> Dictionary:
    """A real dictionary with x̂ = centre + 0.6 (x - centre) + error: a latent for each ± axis.

    The decoder adds ``b_dec`` where the encoder subtracts it, so the constant error goes there and
    the encoder's own bias takes it back out.
    """
    width = len(centre)
    axes = np.concatenate([np.eye(width), -np.eye(width)])
    origin = Origin(model="none", site="none", store="none", store_digest="")
    made = TopK(k=2 * width, latents=2 * width).dictionary(width, origin)
    with torch.no_grad():
        made.W_enc.copy_(torch.from_numpy(axes.T.copy()))
        made.b_enc.copy_(torch.from_numpy(axes @ error))
        made.W_dec.copy_(torch.from_numpy(_KEPT * axes))
        made.b_dec.copy_(torch.from_numpy(centre + error))
    return made.eval().requires_grad_(False)
