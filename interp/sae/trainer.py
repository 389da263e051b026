"""The training loop's state: one object that can be stepped, saved and restored to the bit.

One step:

1. Draw a batch of raw activations, multiply by the input scale.
2. The learner gives losses and gradients; latents silent for ``dead_after`` tokens get help.
3. Project the decoder's gradient, Adam, return the decoder's rows to unit norm.
4. Advance each latent's count of silent tokens.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from interp.errors import ConfigError, DataError, FormatError
from interp.sae.kernels import StepResult
from interp.sae.learner import Learner


@runtime_checkable
class Batches(Protocol):
    """An endless, seeded stream of training batches that can be put back where it stood."""

    def __next__(self) -> Float32[np.ndarray, "batch d_in"]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long and how fast; the defaults suit stores of about a million tokens."""

    tokens: int = 1_500_000
    """Training tokens in all; the store is repeated as often as that takes."""
    batch: int = 1024
    """Tokens per step."""
    lr: float | None = None
    """Peak learning rate of Adam; by default 2e-3 · √(4096 / latents)."""
    warmup: float = 0.05
    """Share of the run over which the learning rate rises from zero."""
    decay: float = 0.3
    """Share of the run, at its end, over which the learning rate falls to zero."""
    scale: Literal["mean-norm", "none"] = "mean-norm"
    """Input scaling, folded into the saved weights: mean distance from the centre to √d."""
    dead_after: int | None = None
    """Tokens without firing after which a latent is dead; by default a twentieth of ``tokens``,
    at least ten batches, at most ten million."""
    seed: int = 0
    """Governs the initial weights and the order of the data."""
    checkpoint_every: int = 500_000
    """Tokens between checkpoints."""
    log_every: int = 20
    """Steps between lines of log.jsonl."""

    def __post_init__(self) -> None:
        """Check every setting."""
        for name in ("tokens", "batch", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.lr is not None and not 0 < self.lr < 1:
            raise ConfigError(f"lr must lie between 0 and 1, got {self.lr}")
        if not (0 <= self.warmup <= 1 and 0 <= self.decay <= 1 and self.warmup + self.decay <= 1):
            raise ConfigError(
                "warmup and decay are shares of the run: each in 0..1 and at most 1 together, "
                f"got {self.warmup} and {self.decay}"
            )
        if self.dead_after is not None and self.dead_after < 1:
            raise ConfigError(f"dead_after must be at least 1 token, got {self.dead_after}")
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, got {self.seed}")

    def steps(self) -> int:
        """Optimiser steps of the run."""
        return -(-self.tokens // self.batch)

    def peak_lr(self, latents: int) -> float:
        """The peak learning rate for a dictionary of this width."""
        return self.lr if self.lr is not None else 2e-3 * (4096 / latents) ** 0.5

    def silence(self) -> int:
        """Tokens after which a latent is dead."""
        if self.dead_after is not None:
            return self.dead_after
        return min(max(self.tokens // 20, 10 * self.batch), 10_000_000)

    def rate(self, step: int) -> float:
        """The share of the peak learning rate at a step, counted from 0."""
        total = self.steps()
        rising = (step + 1) / max(self.warmup * total, 1)
        falling = (total - step) / max(self.decay * total, 1)
        return min(1.0, rising, falling)


class Trainer:
    """Steps a learner over batches."""

    def __init__(
        self,
        learner: Learner,
        batches: Batches,
        config: TrainConfig,
        *,
        scale: float,
        variance: float,
    ) -> None:
        """Start at step 0.

        Args:
            learner: initialised weights; trained in place.
            batches: raw activations, ``config.batch`` a time.
            config: the run.
            scale: what raw activations are multiplied by.
            variance: E‖x - E x‖² of the *scaled* activations.
        """
        self.learner, self.batches, self.config = learner, batches, config
        self.scale, self.variance = scale, variance
        self.done = 0
        tensors = [tensor for _, tensor in learner.weights.items()]
        self.device = tensors[0].device
        self.silent = torch.zeros_like(learner.weights.b_enc, dtype=torch.int64)
        self.peak = config.peak_lr(len(self.silent))
        # eps as Gao et al.: gradients of a loss near 1 over millions of weights are small.
        self.optimizer = torch.optim.Adam(tensors, lr=self.peak, eps=6.25e-10, fused=True)

    @property
    def finished(self) -> bool:
        """Whether every step is done."""
        return self.done >= self.config.steps()

    def dead(self) -> Tensor:
        """Which latents have been silent for too long."""
        return self.silent >= self.config.silence()

    def step(self) -> StepResult:
        """One optimiser step."""
        raw = next(self.batches)
        x = torch.from_numpy(raw).to(self.device, torch.float32) * self.scale
        dead = self.dead() if self.done * self.config.batch >= self.config.silence() else None
        self.learner.progress = self.done / self.config.steps()
        result = self.learner.step(x, self.variance, dead)
        self.learner.constrain_gradients(result.gradients)
        self.optimizer.param_groups[0]["lr"] = self.peak * self.config.rate(self.done)
        pairs = zip(self.learner.weights.items(), result.gradients.items(), strict=True)
        for (_, weight), (_, gradient) in pairs:
            weight.grad = gradient
        self.optimizer.step()
        self.learner.constrain_weights()
        self.silent += len(x)
        self.silent[result.fired] = 0
        self.done += 1
        return result

    def healthy(self) -> bool:
        """Whether every weight is finite."""
        weights = self.learner.weights.items()
        return all(bool(torch.isfinite(tensor).all()) for _, tensor in weights)

    # -- saving and restoring -------------------------------------------------------------------

    def save(self) -> tuple[dict[str, Tensor], str]:
        """Everything the rest of the run depends on: tensors, and JSON for what is no tensor."""
        tensors = {f"weights.{name}": tensor for name, tensor in self.learner.weights.items()}
        tensors |= {f"learner.{name}": tensor for name, tensor in self.learner.state().items()}
        tensors["silent"] = self.silent
        for name, weight in self.learner.weights.items():
            for key, value in self.optimizer.state.get(weight, {}).items():
                tensors[f"adam.{name}.{key}"] = value
        plain: dict[str, Any] = {}
        for key, value in self.batches.state_dict().items():
            if isinstance(value, np.ndarray):
                tensors[f"batches.{key}"] = torch.from_numpy(value)
            else:
                plain[key] = value
        return tensors, json.dumps({"done": self.done, "batches": plain})

    def load(self, tensors: Mapping[str, Tensor], text: str) -> None:
        """Return to a saved state.

        Raises:
            FormatError: the state is of another run.
        """
        try:
            state = json.loads(text)
            for name, tensor in self.learner.weights.items():
                tensor.copy_(tensors[f"weights.{name}"])
                keys = ("step", "exp_avg", "exp_avg_sq")
                moments = {key: tensors[f"adam.{name}.{key}"] for key in keys}
                self.optimizer.state[tensor] = {
                    key: value.to(self.device) for key, value in moments.items()
                }
            for name, tensor in self.learner.state().items():
                tensor.copy_(tensors[f"learner.{name}"])
            self.silent.copy_(tensors["silent"])
            arrays = {
                name.removeprefix("batches."): tensor.numpy()
                for name, tensor in tensors.items()
                if name.startswith("batches.")
            }
            self.batches.load_state_dict({**state["batches"], **arrays})
            self.done = int(state["done"])
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise FormatError(
                f"the checkpoint does not fit this run ({error}); delete it to start again"
            ) from error


def diverged(loss: float, step: int, remedy: str) -> DataError:
    """The error for a loss that is no number any more."""
    return DataError(f"the loss became {loss} at step {step}; {remedy}")
