"""What dictionaries share whose training keeps only the largest pre-activations.

An architecture of this family says whether the k largest are taken per row or n·k per batch, and
what is saved; the step itself belongs to a kernel backend.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import ConfigError
from interp.sae.architecture import Architecture
from interp.sae.base import Dictionary
from interp.sae.kernels import Backend, Rule, SparseBackend, StepResult
from interp.sae.learner import Learner, fold


@dataclass(frozen=True, kw_only=True)
class SparseArchitecture(Architecture):
    """Settings of the family."""

    k: int = 32
    """Active latents per token."""
    aux_k: int = 64
    """Dead latents per token that AuxK lets explain the residual; 0 turns AuxK off."""
    aux_coefficient: float = 1 / 32
    """Weight of the AuxK loss (Gao et al. 2024, App. A.2)."""

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

    def check(self, d_in: int) -> None:
        """See `Architecture.check`."""
        super().check(d_in)
        latents = self.width(d_in)
        if self.k > min(latents, d_in):
            raise ConfigError(
                f"k={self.k} is more than the {latents} latents or the site's width {d_in}; "
                "a sparse dictionary needs k well below both"
            )

    def label(self, d_in: int) -> str:
        """See `Architecture.label`."""
        return f"{self.kind}-{self.width(d_in)}-k{self.k}"

    def rule(self, per: Literal["row", "batch"]) -> Rule:
        """The backend's selection rule."""
        return Rule(k=self.k, per=per, aux_k=self.aux_k, aux_coefficient=self.aux_coefficient)


class SparseLearner(Learner):
    """Trains by a backend's step; what is saved is the bare weights."""

    def __init__(
        self, latents: int, d_in: int, rule: Rule, device: torch.device, backend: Backend | None
    ) -> None:
        """Empty weights; the sparse backend unless another is given."""
        super().__init__(d_in, latents, device)
        self.rule = rule
        self.backend = backend or SparseBackend()

    def step(
        self, x: Float[Tensor, "n d_in"], variance: float, dead: Bool[Tensor, " latents"] | None
    ) -> StepResult:
        """See `Learner.step`."""
        return self.backend.step(self.weights, x, self.rule, variance, dead)

    def dictionary(self, empty: Dictionary, scale: float) -> Dictionary:
        """See `Learner.dictionary`."""
        return fold(self.weights, empty, scale)
