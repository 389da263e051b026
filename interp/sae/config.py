"""How long a dictionary is trained, and how fast."""

from dataclasses import dataclass
from typing import Literal

from interp.errors import ConfigError

USUAL_TOKENS = 1_500_000
"""Up to here the default learning rate does not depend on the length of the run."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long and how fast; the defaults suit stores of about a million tokens."""

    tokens: int = USUAL_TOKENS
    """Training tokens in all; the store is repeated as often as that takes."""
    batch: int = 1024
    """Tokens per step."""
    lr: float | None = None
    """Peak learning rate of Adam; by default 2e-3 · √(4096 / latents), and in runs longer than 1.5
    million tokens as much lower as the cube root of the run is longer."""
    warmup: float = 0.05
    """Share of the run over which the learning rate rises from zero."""
    decay: float = 0.3
    """Share of the run, at its end, over which the learning rate falls to zero."""
    beta1: float = 0.9
    """Adam's decay of the mean gradient."""
    beta2: float = 0.999
    """Adam's decay of the mean squared gradient."""
    clip: float | None = None
    """Largest norm of all gradients together, longer ones are shortened to it; 0 for none. Counted
    before the loss is divided by the variance, as the 1 of SAELens and dictionary_learning is; by
    default 1 where a penalty makes latents sparse (`interp.sae.penalty` says why), else none."""
    micro_batch: int | None = None
    """Tokens of a batch that go through at once, to save memory; by default all."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """Of the matrix products; weights and Adam stay in float32. tf32 is for GPUs only."""
    search: Literal["full", "bf16", "bf16-near"] = "full"
    """Where a step on a CPU looks for the largest pre-activations (TopK, BatchTopK, Matryoshka): in
    products of float32, or faster where the processor has them, of bfloat16, of which all that may
    be among the largest are computed again in float32. The selection is the same; bf16-near, which
    computes fewer, may miss one in one row of 10,000."""
    scale: Literal["mean-norm", "none", "per-dim", "whitening"] = "mean-norm"
    """Input scaling, folded into the saved weights: mean distance from the centre to √d, every
    dimension to spread 1, or every direction to spread 1."""
    data_init: float = 0.0
    """Share of a data point in each latent's first direction (datapoint initialisation), the rest
    of which is random; below 1. `interp/sae/README.md` tells what it brings."""
    dead_after: int | None = None
    """Tokens without firing after which a latent is dead; by default a twentieth of ``tokens``,
    at least ten batches, at most ten million."""
    resample: int | None = None
    """Tokens between resamplings of dead latents, none while the learning rate falls; takes the
    place of the architecture's own help for them. By default no resampling."""
    resample_scale: float = 0.5
    """Norm of a resampled latent's encoder row, as a share of the alive latents' mean."""
    seed: int = 0
    """Governs the initial weights, and the order of the data unless ``data_seed`` does."""
    data_seed: int | None = None
    """Governs the order of the data; by default ``seed``. Runs of one sweep that share it and
    ``batch`` share each reading of the data."""
    checkpoint_every: int = 500_000
    """Tokens between checkpoints."""
    log_every: int = 20
    """Steps between lines of log.jsonl."""
    evaluate_every: int | None = None
    """Tokens between measurements of the held-out rows, as lines of log.jsonl; by default only
    the finished dictionary is measured."""

    def __post_init__(self) -> None:
        """Check every setting."""
        for name in ("tokens", "batch", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.lr is not None and not 0 < self.lr < 1:
            raise ConfigError(f"lr must lie between 0 and 1, got {self.lr}")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} must lie in 0..1, below 1, got {getattr(self, name)}")
        if self.clip is not None and not 0 <= self.clip < float("inf"):
            raise ConfigError(f"clip must be a number ≥ 0, got {self.clip}; 0 is for none")
        if not (0 <= self.warmup <= 1 and 0 <= self.decay <= 1 and self.warmup + self.decay <= 1):
            raise ConfigError(
                "warmup and decay are shares of the run: each in 0..1 and at most 1 together, "
                f"got {self.warmup} and {self.decay}"
            )
        if not 0 <= self.data_init < 1:
            raise ConfigError(f"data_init must lie in 0..1, below 1, got {self.data_init}")
        if not 0 < self.resample_scale < float("inf"):
            raise ConfigError(f"resample_scale must be a number > 0, got {self.resample_scale}")
        for name in ("dead_after", "micro_batch", "resample", "evaluate_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1 token, got {value}")
        for name in ("seed", "data_seed"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"{name} must not be negative, got {value}")

    def steps(self) -> int:
        """Optimiser steps of the run."""
        return -(-self.tokens // self.batch)

    def order(self) -> int:
        """The seed of the data's order."""
        return self.seed if self.data_seed is None else self.data_seed

    def peak_lr(self, latents: int) -> float:
        """The peak learning rate for a dictionary of this width.

        The rates that are best for a million tokens kill latents in a long run: of 4,608 latents
        of SmolLM2 118 in 10 million tokens instead of 5 at half the rate (`interp/sae/README.md`).
        """
        if self.lr is not None:
            return self.lr
        return 2e-3 * (4096 / latents) ** 0.5 * min(1.0, USUAL_TOKENS / self.tokens) ** (1 / 3)

    def silence(self) -> int:
        """Tokens after which a latent is dead."""
        if self.dead_after is not None:
            return self.dead_after
        return min(max(self.tokens // 20, 10 * self.batch), 10_000_000)

    def resamples(self, step: int) -> bool:
        """Whether dead latents are resampled after so many steps."""
        if self.resample is None or step > (1 - self.decay) * self.steps():
            return False
        return self._passes(step, self.resample)

    def evaluates(self, step: int) -> bool:
        """Whether held-out rows are measured after so many steps."""
        return self.evaluate_every is not None and self._passes(step, self.evaluate_every)

    def _passes(self, step: int, tokens: int) -> bool:
        """Whether the step passes a multiple of so many tokens."""
        return step * self.batch // tokens > (step - 1) * self.batch // tokens

    def rate(self, step: int) -> float:
        """The share of the peak learning rate at a step, counted from 0."""
        total = self.steps()
        rising = (step + 1) / max(self.warmup * total, 1)
        falling = (total - step) / max(self.decay * total, 1)
        return min(1.0, rising, falling)
