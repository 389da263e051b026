"""Activations whose features are known: sparse sums of unit directions.

    x = Σ_i a_i d_i + bias,   a_i ≥ 0 and mostly 0

1. Rates: feature i is active with rate p_i, falling with i as the config says.
2. Correlation: active where Φ(g_i) < p_i for a normal g = F z + √(1 - ‖F_i‖²) ε of low rank, so the
   rates stay what they are. Given z, the features are independent.
3. Magnitudes: a_i = max(0, μ_i + σ_i ε) where active.
4. A forest gates children by parents (`interp.lab.tree`).

`SYNTH_SAE_BENCH_V2` is the setting of SynthSAEBench-16k, version 2 (children scaled by parents).
Batch number k of a seed is the same whenever it is drawn, so a stream can start anywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from interp.errors import ConfigError
from interp.lab.directions import spread_out
from interp.lab.drawing import Active, Odds
from interp.lab.tree import Tree
from interp.progress import Progress, silent


@dataclass(frozen=True, kw_only=True)
class PlantedConfig:
    """The world that rows are drawn from."""

    features: int = 128
    """Number of true features."""
    d_in: int = 64
    """Width of a row."""
    rates: Literal["constant", "linear", "zipf"] = "constant"
    """How rates fall from the first feature to the last; constant: all as the first."""
    first_rate: float = 0.03
    """Share of rows in which the first feature is active."""
    last_rate: float = 0.03
    """The same of the last feature."""
    exponent: float = 0.5
    """Of Zipf's law."""
    first_magnitude: float = 1.0
    """Mean magnitude μ of the first feature; it changes linearly to the last."""
    last_magnitude: float = 1.0
    """Mean magnitude of the last feature."""
    spread: float = 0.25
    """Each feature's σ is |normal| with this mean ..."""
    spread_deviation: float = 0.0
    """... and this standard deviation."""
    rank: int = 0
    """Rank of the correlation between features; 0 makes them independent."""
    correlation: float = 0.1
    """Standard deviation of the numbers in F."""
    coherence: float = 0.0
    """Cosine wanted between directions."""
    spread_steps: int = 0
    """Steps that move the directions towards it; 0 leaves them random."""
    spread_lr: float = 3e-4
    """Learning rate of those steps."""
    bias: float = 0.0
    """Length of the offset added to every row."""
    tree: Tree | None = None
    """The forest over features, if any."""
    seed: int = 0
    """Governs directions, magnitudes' spread, correlation and offset."""

    def __post_init__(self) -> None:
        """Check every setting."""
        if self.features < 1 or self.d_in < 1:
            raise ConfigError(
                f"features and d_in must be at least 1, got {self.features} and {self.d_in}"
            )
        for name in ("first_rate", "last_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(
                    f"{name} must be above 0 and at most 1, got {getattr(self, name)}"
                )
        if self.last_rate > self.first_rate:
            raise ConfigError(
                f"rates fall from the first feature to the last; {self.first_rate} to "
                f"{self.last_rate} rises"
            )
        if min(self.first_magnitude, self.last_magnitude) <= 0 or self.exponent <= 0:
            raise ConfigError("magnitudes and exponent must be above 0")
        if self.rank < 0 or self.spread_steps < 0 or self.seed < 0:
            raise ConfigError("rank, spread_steps and seed must not be negative")
        if not -1 < self.coherence < 1:
            raise ConfigError(f"coherence must lie between -1 and 1, got {self.coherence}")
        if self.tree is not None and self.tree.size() > self.features:
            raise ConfigError(
                f"the forest has {self.tree.size()} features but there are {self.features}; plant "
                "fewer roots or more features"
            )


SYNTH_SAE_BENCH_V2 = PlantedConfig(
    features=16_384,
    d_in=768,
    rates="zipf",
    first_rate=0.4,
    last_rate=5e-4,
    exponent=0.5,
    first_magnitude=5.0,
    last_magnitude=4.0,
    spread=0.5,
    spread_deviation=0.5,
    rank=25,
    correlation=0.1,
    spread_steps=100,
    spread_lr=3e-4,
    bias=0.5,
    tree=Tree(roots=128, branching=4, depth=3),
    seed=42,
)

WORLDS = {"easy": PlantedConfig(), "synth-sae-bench-v2": SYNTH_SAE_BENCH_V2}
"""Named worlds."""


class Planted:
    """A world of known features, from which rows are drawn."""

    def __init__(self, config: PlantedConfig, progress: Progress = silent) -> None:
        """Take the settings; directions and the rest are made when first used.

        Args:
            config: the settings.
            progress: told the steps in which directions are moved apart.
        """
        self.config, self._progress = config, progress

    @cached_property
    def rates(self) -> Float[Tensor, " feature"]:
        """The wanted rate of each feature, before gating and exclusion."""
        config = self.config
        if config.rates == "constant" or config.features == 1:
            return torch.full((config.features,), config.first_rate)
        share = torch.linspace(1, 0, config.features)
        if config.rates == "zipf":
            share = torch.arange(1, config.features + 1) ** -config.exponent
            share = (share - share[-1]) / (share[0] - share[-1])
        return config.last_rate + (config.first_rate - config.last_rate) * share

    @cached_property
    def drawn_rates(self) -> Float[Tensor, " feature"]:
        """The rate at which each feature is drawn, compensated for the forest."""
        return self.rates if self.config.tree is None else self.config.tree.compensated(self.rates)

    @cached_property
    def magnitudes(self) -> Float[Tensor, " feature"]:
        """Mean magnitude of each feature."""
        config = self.config
        return torch.linspace(config.first_magnitude, config.last_magnitude, config.features)

    @cached_property
    def spreads(self) -> Float[Tensor, " feature"]:
        """Standard deviation of each feature's magnitude."""
        normal = torch.randn(self.config.features, generator=self._generator(1))
        return (self.config.spread + self.config.spread_deviation * normal).abs()

    @cached_property
    def directions(self) -> Float[Tensor, "feature d_in"]:
        """The unit direction of each feature."""
        config = self.config
        rows = torch.randn(config.features, config.d_in, generator=self._generator(2))
        return spread_out(
            rows,
            config.coherence,
            steps=config.spread_steps,
            lr=config.spread_lr,
            progress=self._progress,
        )

    @cached_property
    def offset(self) -> Float[Tensor, " d_in"]:
        """What is added to every row."""
        row = torch.randn(self.config.d_in, generator=self._generator(3))
        return self.config.bias * row / row.norm()

    @cached_property
    def _correlation(self) -> tuple[Float[Tensor, " feature"], Float[Tensor, "feature rank"]]:
        """What Φ takes given z, as start + slope z; F shrunk so that ‖F_i‖² stays below 1."""
        shape = (self.config.features, self.config.rank)
        factor = self.config.correlation * torch.randn(shape, generator=self._generator(4))
        squares = factor.square().sum(dim=1)
        shrunk = min(1.0, 0.99 / max(float(squares.max()), 1e-12))
        own = (1 - shrunk * squares).sqrt()
        return torch.special.ndtri(self.drawn_rates) / own, shrunk**0.5 * factor / own[:, None]

    @cached_property
    def _odds(self) -> Odds:
        """The same as `interp.lab.drawing` takes it."""
        start, slope = (part.numpy() for part in self._correlation)
        tree = self.config.tree
        if tree is None:
            return Odds(start, slope, roots=len(start), branching=1, parents=0, exclusive=False)
        return Odds(
            start,
            slope,
            roots=tree.roots,
            branching=tree.branching,
            parents=tree.parents(),
            exclusive=tree.exclusive,
        )

    def active(self, rows: int, generator: np.random.Generator) -> Active:
        """The active features of rows and their values, drawn anew."""
        z = generator.standard_normal((rows, self.config.rank), np.float32)
        feature, parent, starts = self._odds.draw(z, generator)
        means = self.magnitudes.numpy()
        normal = generator.standard_normal(len(feature), np.float32)
        values = means[feature] + self.spreads.numpy()[feature] * normal
        values = np.maximum(values, 0, out=values)
        if self.config.tree is not None:
            from interp.lab.drawing_loops import scale_children

            scale_children(values, feature, parent, starts, means, self.config.tree.scaled)
        return Active(feature, parent, starts, values)

    @torch.no_grad()
    def rows(self, active: Active) -> Float32[np.ndarray, "row d_in"]:
        """The rows that active features give."""
        sums = torch.nn.functional.embedding_bag(
            torch.from_numpy(active.feature),
            self.directions,
            torch.from_numpy(active.starts[:-1].astype(np.int32)),
            mode="sum",
            per_sample_weights=torch.from_numpy(active.values),
        )
        return (sums + self.offset).numpy()

    def draw(
        self, rows: int, *, seed: int, number: int = 0
    ) -> tuple[Float32[np.ndarray, "row d_in"], Float32[np.ndarray, "row feature"]]:
        """Rows and their true codes: batch ``number`` of a seed, the same every time."""
        active = self.active(rows, np.random.default_rng([seed, number, 11]))
        return self.rows(active), active.codes(self.config.features)

    def draw_rows(
        self, rows: int, *, seed: int, number: int = 0
    ) -> Float32[np.ndarray, "row d_in"]:
        """The rows that `draw` gives, without their codes."""
        return self.rows(self.active(rows, np.random.default_rng([seed, number, 11])))

    def _generator(self, part: int) -> torch.Generator:
        return _generator(self.config.seed, part, 7)


def _generator(*key: int) -> torch.Generator:
    (seed,) = np.random.SeedSequence(key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed) % 2**63)


class PlantedBatches:
    """An endless stream of batches for the trainer, which never repeats."""

    def __init__(self, planted: Planted, *, batch: int, seed: int) -> None:
        """Start at batch 0 of a seed."""
        self.planted, self.batch, self.seed = planted, batch, seed
        self.done = 0

    def __next__(self) -> Float32[np.ndarray, "batch d_in"]:
        """The next batch."""
        rows = self.planted.draw_rows(self.batch, seed=self.seed, number=self.done)
        self.done += 1
        return rows

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands."""
        return {"done": self.done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Return to where a stream stood."""
        self.done = int(state["done"])
