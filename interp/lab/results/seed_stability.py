"""Dictionaries of different seeds agree on planted features, and random directions do not.

1. One world of 128 features in 64 dimensions; train a TopK dictionary for each of several seeds,
   each on rows of its own.
2. PW-MCC: the mean over pairs of dictionaries of their matched |cosine|.

A seed of this result is another world. The expected figure is of a trial made for this project
before this file was, one or two runs.

`--full` takes about five minutes on one core, by the ratio of its work to the quick form's.
"""

from dataclasses import dataclass

import numpy as np

from interp.errors import ConfigError
from interp.evaluate.truth import mcc, pairwise_mcc
from interp.lab.planted import Planted, PlantedConfig
from interp.lab.recovery import train_on
from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.progress import Progress, silent
from interp.sae import TopK, TrainConfig


@dataclass(frozen=True, kw_only=True)
class SeedStability(Experiment):
    """See the module."""

    name = "seed-stability"
    paper = "Song et al. 2025, mechanistic interpretability should prioritize feature consistency"
    claim = "Dictionaries trained from different seeds agree where there is a truth to find."

    dictionaries: int = 4
    """Dictionaries that are compared."""
    features: int = 128
    """Number of true features."""
    d_in: int = 64
    """Width of a row."""
    rate: float = 0.03
    """Share of rows in which a feature is active."""
    latents: int = 128
    """Latents of each dictionary."""
    k: int = 4
    """Active latents a row."""
    tokens: int = 4_000_000
    """Training rows of each."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        if self.dictionaries < 2:
            raise ConfigError(
                f"stability compares at least 2 dictionaries, got {self.dictionaries}"
            )

    @classmethod
    def at(cls, effort: Effort) -> "SeedStability":
        """See `Experiment.at`."""
        return cls() if effort == "full" else cls(seeds=2, dictionaries=3, tokens=1_000_000)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        why = (
            "dictionaries agree more than in the trial that this figure is of, whose optimiser and "
            "number of rows were not written down"
        )
        return (Expected(quantity="PW-MCC", value=0.88, low=0.83, high=0.93, why=why),)

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        world = Planted(
            PlantedConfig(
                features=self.features,
                d_in=self.d_in,
                first_rate=self.rate,
                last_rate=self.rate,
                seed=seed,
            )
        )
        found: list[np.ndarray] = []
        for number in range(self.dictionaries):

            def told(done: int, total: int, note: str = "", number: int = number) -> None:
                progress(done + number * total, self.dictionaries * total, note)

            dictionary = train_on(
                world,
                TopK(k=self.k, latents=self.latents),
                TrainConfig(tokens=self.tokens, seed=1000 * seed + number),
                progress=told,
            )
            found.append(dictionary.W_dec.numpy())
        pairs = [
            (float(i), float(j), mcc(a, b))
            for i, a in enumerate(found)
            for j, b in enumerate(found)
        ]
        return Measurement(
            values={"PW-MCC": pairwise_mcc(found)},
            figures=(
                Figure(
                    title="MCC between dictionaries",
                    kind="heatmap",
                    x="seed",
                    y="seed",
                    series={"MCC": pairs},
                ),
            ),
        )
