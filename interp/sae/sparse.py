"""What dictionaries share whose training keeps only the largest pre-activations.

An architecture of this family says whether the k largest are taken per row or n·k per batch, and
what is saved; the step itself belongs to a kernel backend.

Two settings change the training of all of them:

- ``start_k``: k falls linearly from there to ``k`` over the run's first ``k_anneal``, so that
  latents have found their features before few of them may speak. Both ends are whole numbers, and
  so is every k between.
- ``frozen_decoder``: the decoder keeps its random rows, and only the encoder and both biases
  learn. A control, no way to find features: a score that such a dictionary reaches too says
  nothing about features.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import ConfigError
from interp.sae.architecture import Architecture
from interp.sae.base import Dictionary
from interp.sae.kernels import Backend, Rule, StepResult, default_backend
from interp.sae.kernels.dense import kth_largest
from interp.sae.learner import Learner, fold


@dataclass(frozen=True, kw_only=True)
class SparseArchitecture(Architecture):
    """Settings of the family."""

    k: int = 32
    """Active latents per token."""
    aux_k: int = 64
    """Dead latents per token that AuxK lets explain the residual; 0 turns AuxK off."""
    aux_coefficient: float = 1 / 32
    """Weight of the AuxK loss (Gao et al. 2024)."""
    start_k: int | None = None
    """Active latents per token at the run's start; by default ``k`` from the start."""
    k_anneal: float = 0.5
    """Share of the run over which ``start_k`` falls to ``k``; a threshold that is averaged over
    batches (BatchTopK) needs some of the run at the final ``k``."""
    frozen_decoder: bool = False
    """Whether the decoder keeps its random rows: a control, not a way to find features."""

    def __post_init__(self) -> None:
        """Check the settings that need no site."""
        super().__post_init__()
        if self.k < 1:
            raise ConfigError(f"k must be at least 1, got {self.k}")
        if self.aux_k < 0:
            raise ConfigError(f"aux_k must not be negative, got {self.aux_k}; 0 turns AuxK off")
        if not 0 <= self.aux_coefficient < float("inf"):
            raise ConfigError(
                f"aux_coefficient must be a number ≥ 0, got {self.aux_coefficient}; "
                "0 turns AuxK off"
            )
        if self.start_k is not None and self.start_k < self.k:
            raise ConfigError(f"start_k falls to k={self.k}, so it cannot be {self.start_k}")
        if not 0 < self.k_anneal <= 1:
            raise ConfigError(f"k_anneal is a share of the run, in 0..1, got {self.k_anneal:g}")

    def check(self, d_in: int) -> None:
        """See `Architecture.check`."""
        super().check(d_in)
        latents = self.width(d_in)
        for name, k in (("k", self.k), ("start_k", self.k_at(0.0))):
            if k > min(latents, d_in):
                raise ConfigError(
                    f"{name}={k} is more than the {latents} latents or the site's width {d_in}; "
                    "a sparse dictionary needs k well below both"
                )

    def label(self, d_in: int) -> str:
        """See `Architecture.label`."""
        k = f"k{self.k}" if self.start_k is None else f"k{self.start_k}to{self.k}"
        return f"{self.kind}-{self.width(d_in)}-{k}{'-frozen' * self.frozen_decoder}"

    def k_at(self, progress: float) -> int:
        """Active latents per token after a share ``progress`` of the run."""
        start = self.k if self.start_k is None else self.start_k
        return round(start + (self.k - start) * min(1.0, progress / self.k_anneal))


class SparseLearner(Learner):
    """Trains by a backend's step; what is saved is the bare weights."""

    def __init__(
        self,
        config: SparseArchitecture,
        per: Literal["row", "batch"],
        d_in: int,
        device: torch.device,
        backend: Backend | None = None,
    ) -> None:
        """Empty weights; the device's default backend unless another is given."""
        super().__init__(d_in, config.width(d_in), device)
        self.config, self.frozen = config, config.frozen_decoder
        self.per: Literal["row", "batch"] = per
        self.backend = backend or default_backend(device)

    @property
    def rule(self) -> Rule:
        """The selection at this point of the run."""
        config = self.config
        return Rule(
            k=config.k_at(self.progress),
            per=self.per,
            aux_k=config.aux_k,
            aux_coefficient=config.aux_coefficient,
        )

    def step(
        self, x: Float[Tensor, "n d_in"], variance: float, dead: Bool[Tensor, " latents"] | None
    ) -> StepResult:
        """See `Learner.step`."""
        return self.backend.step(self.weights, x, self.rule, variance, dead)

    @torch.no_grad()
    def fitted_length(self, x: Float[Tensor, "n d_in"]) -> float:
        """The length of all encoder rows at which x is reconstructed best.

        Random unit rows overlap, and so several of them say more than x holds. With r the
        reconstruction by rows of length 1 and the n·k largest pre-activations, which are the same
        at any length, the length is the α that minimises Σ‖x - b_dec - α·r‖², namely
        Σ⟨x - b_dec, r⟩ / Σ‖r‖². Selection per row starts from it too; where k falls during the
        run, it is the last.
        """
        weights = self.weights
        centred = x - weights.b_dec
        pre = torch.addmm(weights.b_enc, centred, weights.encoder.T)
        least = kth_largest(pre, self.config.k * len(x))
        r = pre.masked_fill_(pre < least, 0).relu_() @ weights.decoder
        length = float((centred * r).sum() / r.square().sum())
        return length if 0 < length < float("inf") else 1.0  # nothing varies: nothing to fit

    def dictionary(self, empty: Dictionary, scale: float) -> Dictionary:
        """See `Learner.dictionary`."""
        return fold(self.weights, empty, scale)
