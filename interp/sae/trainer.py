"""The training loop's state: one object that can be stepped, saved and restored to the bit.

One step:

1. Draw a batch of raw activations, scale it (`interp.sae.scaling`).
2. The learner gives losses and gradients; latents silent for ``dead_after`` tokens get help.
3. Clip gradients, project the decoder's, Adam, return the decoder's rows to unit norm.
4. Advance each latent's count of silent tokens; resample dead ones if that is due.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from interp.errors import FormatError
from interp.sae.accumulate import accumulated
from interp.sae.adam import Adam, norm
from interp.sae.base import Dictionary
from interp.sae.config import TrainConfig
from interp.sae.kernels import StepResult, Weights
from interp.sae.kernels.clock import timed
from interp.sae.learner import Learner
from interp.sae.precision import computing, suit
from interp.sae.resample import drawn_rows, revive
from interp.sae.scaling import Scaling
from interp.sae.stream import Batches


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
        matrix: Float64[Tensor, "..."] | None = None,
        empty: Callable[[], Dictionary] | None = None,
    ) -> None:
        """Start at step 0.

        Args:
            learner: initialised weights; trained in place.
            batches: raw activations, ``config.batch`` a time.
            config: the run.
            scale: what raw activations are multiplied by.
            variance: E‖x - E x‖² of the *scaled* activations, of a transcoder its target.
            matrix: what they are then multiplied by, if anything (see `Scaling`).
            empty: makes an empty dictionary of the architecture; only resampling needs it.
        """
        self.learner = suit(learner, config.precision, config.search)
        self.batches, self.config = batches, config
        self.scale, self.variance = scale, variance
        self.matrix = None if matrix is None else matrix.to(learner.weights.b_dec.device)
        self.empty = empty
        self.done = 0
        self.device = learner.weights.b_dec.device
        self.silent = torch.zeros_like(learner.weights.b_enc, dtype=torch.int64)
        self.peak = config.peak_lr(len(self.silent))
        self.optimizer = Adam(learner, config, self.peak, variance, self.norm)

    @property
    def scaling(self) -> Scaling:
        """What raw activations go through."""
        return Scaling(self.scale, self.matrix)

    @property
    def finished(self) -> bool:
        """Whether every step is done."""
        return self.done >= self.config.steps()

    def dead(self) -> Tensor:
        """Which latents have been silent for too long."""
        return self.silent >= self.config.silence()

    def dead_count(self) -> int:
        """How many they are."""
        return int(self.dead().sum())

    def whole(self) -> Learner | None:
        """The learner with all latents; None where another process has it."""
        return self.learner

    def step(self) -> StepResult:
        """One optimiser step."""
        with timed("whole"):
            return self._step()

    def _step(self) -> StepResult:
        with timed("data"):
            raw = next(self.batches)
            x = self.scaling(torch.from_numpy(raw).to(self.device, torch.float32))
        helped = self.config.resample is None
        helped = helped and self.done * self.config.batch >= self.config.silence()
        dead = self.dead() if helped else None
        self.learner.progress = self.done / self.config.steps()
        with computing(self.config.precision, self.device):
            result = self.losses(x, dead)
        with timed("optimiser"):
            self.optimizer.step(result.gradients, self.peak * self.config.rate(self.done))
        self.silent += len(x)
        self.silent[result.fired] = 0
        self.done += 1
        if self.config.resamples(self.done):
            self._resample(x)
        return result

    def norm(self, gradients: Weights) -> Float[Tensor, ""]:
        """Of all gradients of a step together."""
        return norm(gradients)

    def losses(
        self, x: Float32[Tensor, "n d_in"], dead: Bool[Tensor, " latents"] | None
    ) -> StepResult:
        """What the learner makes of a scaled batch."""
        return accumulated(self.learner, x, self.variance, dead, self.config.micro_batch)

    def _resample(self, x: Float32[Tensor, "n d_in"]) -> None:
        """Let dead latents begin again; the draw depends on the seed and the step alone."""
        dead = self.dead()
        if not bool(dead.any()):
            return
        assert self.empty is not None
        dictionary = self.learner.dictionary(self.empty().to(self.device), 1.0)
        with torch.no_grad():
            residual = x - dictionary(x)
        rng = np.random.default_rng([self.config.seed, 73, self.done])
        rows = torch.from_numpy(drawn_rows(residual, int(dead.sum()), rng)).to(self.device)
        longest = torch.where(dead, self.silent, -1).argsort(descending=True, stable=True)
        latents = longest[: len(rows)]
        revive(
            self.learner.weights,
            self.optimizer.state,
            latents,
            residual[rows],
            ~dead,
            scale=self.config.resample_scale,
            unit_rows=self.learner.unit_rows,
        )
        self.silent[latents] = 0

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
