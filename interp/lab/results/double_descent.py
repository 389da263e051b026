"""Trained on few data points a toy model stores the points, trained on many it stores features.

Henighan et al. 2023: the toy model of superposition with m=2 is trained on a fixed set of T rows.

1. Rows: some ten of n features active, uniform in [0, 1], then scaled to ‖x‖ = 1.
2. AdamW (decay 0.01) on all T rows at once; learning rate rising over a twentieth of the steps,
   then falling on a cosine. Loss: ‖x - x'‖², on the T rows and on fresh ones.
3. With few rows their hidden vectors form a polygon and the test loss is bad; with many a few
   features take over; in between the test loss peaks.

How many vectors matter is the participation number of their squared lengths, (Σ a)² / Σ a². The
original has n = 10,000, up to 100,000 rows and 50,000 steps; this is scaled down, so only the shape
is compared. The ranges were set after one trial each with n = 200 and n = 1000; the peak grows with
n, and in small models three rows alone can cost more on fresh ones.

`--full` takes about seven hours on one core, by the ratio of its work to the quick form's.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ConfigError
from interp.lab.result import Effort, Expected, Experiment, Figure, Measurement
from interp.lab.toys.superposition import Superposition
from interp.progress import Progress, silent

SHOWN = 500
"""Hidden vectors of a kind that are drawn."""


@dataclass(frozen=True, kw_only=True)
class DoubleDescent(Experiment):
    """See the module."""

    name = "double-descent"
    paper = "Henighan et al. 2023, Superposition, Memorization, and Double Descent"
    claim = "Few rows are stored as points, many as features; between them the test loss peaks."

    seeds: int = 5
    """How often it is measured: with seeds 0, 1, 2, ..."""
    features: int = 1000
    """Number of features."""
    active: float = 10.0
    """Mean number of features active in a row."""
    sizes: tuple[int, ...] = (3, 5, 10, 30, 100, 200, 300, 500, 1000, 3000, 10_000)
    """Numbers of training rows T, rising."""
    steps: int = 10_000
    """Optimiser steps."""
    lr: float = 5e-3
    """Peak learning rate."""
    test_rows: int = 5000
    """Fresh rows for the test loss."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        if len(self.sizes) < 3 or list(self.sizes) != sorted(set(self.sizes)) or self.sizes[0] < 2:
            raise ConfigError(
                f"a peak needs at least three sizes, rising, from 2 on; got {list(self.sizes)}"
            )
        if not 0 < self.active <= self.features:
            raise ConfigError(
                f"active must be above 0 and at most features ({self.features}), got {self.active}"
            )
        if self.steps < 1 or self.test_rows < 1:
            raise ConfigError("steps and test_rows must be at least 1")

    @classmethod
    def at(cls, effort: Effort) -> "DoubleDescent":
        """See `Experiment.at`."""
        if effort == "full":
            return cls()
        return cls(features=300, sizes=(3, 10, 30, 80, 200, 600), steps=1500, test_rows=2000)

    def expected(self) -> tuple[Expected, ...]:
        """See `Experiment.expected`."""
        return (
            Expected(quantity="test loss peaks between the ends", value=1.0, low=0.8),
            Expected(quantity="test over train loss, least T", value=100.0, low=5.0),
            Expected(quantity="points in the polygon / T, least T", value=1.0, low=0.9, high=1.01),
            Expected(
                quantity="features that matter, most T / least T", value=0.25, low=0.0, high=0.5
            ),
        )

    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """See `Experiment.measure`."""
        draw = torch.Generator().manual_seed(seed + 1)
        test = self.rows(self.test_rows, torch.Generator().manual_seed(seed + 1_000_003))
        losses: dict[str, list[tuple[float, ...]]] = {"train": [], "test": []}
        matter: dict[str, list[tuple[float, ...]]] = {"data points": [], "features": []}
        hidden: dict[str, dict[str, list[tuple[float, ...]]]] = {name: {} for name in matter}
        work, done = sum(self.sizes), 0
        for size in self.sizes:
            x = self.rows(size, draw)
            model = Superposition(1, self.features, 2, seed=seed)
            self._fit(model, x)
            with torch.no_grad():
                W = model.W[0].double()
                for name, each in (("train", x), ("test", test)):
                    losses[name].append((float(size), float(_loss(model, each))))
                lengths = {"data points": W @ x.T.double(), "features": W}
                for name, columns in lengths.items():
                    matter[name].append((float(size), participation(columns.square().sum(dim=0))))
                    hidden[name][f"{size}"] = _points(columns)
            done += size
            progress(done, work)
        tests = [value for _, value in losses["test"]]
        peak = tests.index(max(tests))
        counts = {name: [value for _, value in points] for name, points in matter.items()}
        return Measurement(
            values={
                "test loss peaks between the ends": float(0 < peak < len(tests) - 1),
                "test over train loss, least T": tests[0] / max(losses["train"][0][1], 1e-6),
                "points in the polygon / T, least T": counts["data points"][0] / self.sizes[0],
                "features that matter, most T / least T": counts["features"][-1]
                / counts["features"][0],
            },
            figures=(
                Figure(
                    title="Loss by number of training rows",
                    kind="line",
                    x="training rows T",
                    y="‖x - x'‖²",
                    series=losses,
                    log=("x",),
                ),
                Figure(
                    title="How many hidden vectors matter",
                    kind="line",
                    x="training rows T",
                    y="participation number",
                    series=matter,
                    log=("x", "y"),
                ),
                *(
                    Figure(
                        title=f"Hidden vectors of {name}",
                        kind="scatter",
                        x="hidden 0",
                        y="hidden 1",
                        series=found,
                        slider="training rows T",
                    )
                    for name, found in hidden.items()
                ),
            ),
        )

    def rows(self, count: int, generator: torch.Generator) -> Float[Tensor, "row feature"]:
        """Rows of unit length; one with no feature active gets one."""
        density = self.active / self.features
        u = torch.rand(count, self.features, generator=generator) / density
        x = torch.where(u < 1, u, 0.0)
        spare = torch.randint(self.features, (count,), generator=generator)
        empty = ~x.any(dim=1)
        x[empty, spare[empty]] = 1.0
        return x / x.norm(dim=1, keepdim=True)

    def _fit(self, model: Superposition, x: Float[Tensor, "row feature"]) -> None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=self.lr, weight_decay=0.01, fused=True)
        for step in range(self.steps):
            rising = (step + 1) / (0.05 * self.steps)
            falling = 0.5 * (1 + math.cos(math.pi * step / self.steps))
            for group in optimizer.param_groups:
                group["lr"] = self.lr * min(rising, falling)
            loss = _loss(model, x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def _points(columns: Float[Tensor, "2 item"]) -> list[tuple[float, ...]]:
    """The first of them, enough to see a shape."""
    return [(round(float(x), 4), round(float(y), 4)) for x, y in columns.T[:SHOWN]]


def _loss(model: Superposition, x: Float[Tensor, "row feature"]) -> Float[Tensor, ""]:
    return (model(x[None])[0] - x).square().sum(dim=1).mean()


def participation(weights: Float[Tensor, " item"]) -> float:
    """How many items share the weight: (Σ a)² / Σ a², 1 for one item, n for n equal ones."""
    return float(weights.sum().square() / weights.square().sum().clamp_min(1e-30))
