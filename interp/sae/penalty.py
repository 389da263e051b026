"""What dictionaries share whose sparsity comes from a penalty, not from a count of latents.

An architecture of this family states its loss as a sum of terms; the step differentiates it by
autograd on dense [n, latents] arrays:

    loss = unexplained + sparsity + aux
    unexplained = Σ‖x - x̂‖² / (n·v)          as in `interp.sae.kernels.interface`, so that learning
                                              rates and coefficients mean the same at every site
    sparsity    = coefficient · ramp · (the architecture's penalty)
    aux         = coefficient · (help for dead latents), and whatever else the architecture adds

The ramp rises linearly from 0 to 1 over the run's first ``sparsity_warmup`` (Anthropic, April
2024 update): a full penalty on random weights kills latents before they have learnt anything.

Dead latents of this family have only pre-activations at or below their threshold, so AuxK, which
passes positive values on, cannot reach them. Their pre-activations are pulled up instead
(Conerly et al., Anthropic, January 2025 update):

    preact = Σ_{i, dead j} relu(θ_j - pre_ij) / (n·√v)

The update applies it to every latent at a weight of 3e-6; here, as in SAELens, it reaches only
those that the trainer calls dead, and may weigh more: on planted features 0.1 left none dead where
0 left 2% so.
"""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import ConfigError
from interp.sae.architecture import Architecture
from interp.sae.kernels import StepResult, Weights
from interp.sae.learner import Learner


@dataclass(frozen=True, kw_only=True)
class PenaltyArchitecture(Architecture):
    """Settings of the family."""

    sparsity_warmup: float = 0.05
    """Share of the run over which the sparsity penalty rises from zero (Anthropic, April 2024)."""
    preact_coefficient: float = 0.1
    """Weight of the loss that pulls dead latents' pre-activations up; 0 turns it off."""

    def __post_init__(self) -> None:
        """Check the settings that need no site."""
        super().__post_init__()
        if not 0 <= self.sparsity_warmup <= 1:
            raise ConfigError(
                f"sparsity_warmup is a share of the run, in 0..1, got {self.sparsity_warmup}"
            )
        check_coefficient("preact_coefficient", self.preact_coefficient)

    def ramp(self, progress: float) -> float:
        """The share of the full penalty after a share ``progress`` of the run."""
        return min(1.0, progress / self.sparsity_warmup) if self.sparsity_warmup else 1.0


def check_coefficient(name: str, value: float) -> None:
    """Refuse a weight of a loss term that is negative, infinite or no number.

    Raises:
        ConfigError: it is.
    """
    if not 0 <= value < float("inf"):
        raise ConfigError(f"{name} must be a number ≥ 0, got {value}; 0 turns it off")


@dataclass(frozen=True, kw_only=True)
class L1Architecture(PenaltyArchitecture):
    """Settings of those whose penalty is a sum of values."""

    l1_coefficient: float = 0.2
    """Weight λ of the summed values, in units of the site's standard deviation."""

    def __post_init__(self) -> None:
        """Check the settings that need no site."""
        super().__post_init__()
        check_coefficient("l1_coefficient", self.l1_coefficient)

    def label(self, d_in: int) -> str:
        """See `Architecture.label`."""
        return f"{self.kind}-{self.width(d_in)}-c{self.l1_coefficient:g}"


@dataclass(frozen=True)
class Terms:
    """A batch's latents and its loss terms, each weighted: their sum is the loss."""

    z: Float[Tensor, "n latents"]
    unexplained: Float[Tensor, ""]
    sparsity: Float[Tensor, ""]
    aux: Float[Tensor, ""]


class PenaltyLearner(Learner):
    """Differentiates the terms that a subclass states."""

    @abstractmethod
    def terms(
        self,
        weights: Weights,
        x: Float[Tensor, "n d_in"],
        variance: float,
        dead: Bool[Tensor, " latents"] | None,
    ) -> Terms:
        """The loss of a batch under any weights, differentiable by them."""

    def observe(self, z: Float[Tensor, "n latents"], variance: float) -> None:  # noqa: B027
        """Advance the architecture's own state by a batch's latents, if it has any."""

    def step(
        self, x: Float[Tensor, "n d_in"], variance: float, dead: Bool[Tensor, " latents"] | None
    ) -> StepResult:
        """See `Learner.step`."""
        leaves = [tensor.detach().requires_grad_() for _, tensor in self.weights.items()]
        with torch.enable_grad():
            terms = self.terms(self.weights.like(leaves), x, variance, dead)
            loss = terms.unexplained + terms.sparsity + terms.aux
            gradients = torch.autograd.grad(loss, leaves)
        z = terms.z.detach()
        self.observe(z, variance)
        active = z > 0
        return StepResult(
            loss=loss.detach(),
            unexplained=terms.unexplained.detach(),
            aux=terms.aux.detach(),
            gradients=self.weights.like(gradients),
            fired=active.any(dim=0),
            l0=active.sum().to(x.dtype) / len(x),
            smallest=z[active].min() if active.any() else x.new_zeros(()),
        )


def unexplained(
    x: Float[Tensor, "n d_in"], estimate: Float[Tensor, "n d_in"], variance: float
) -> Float[Tensor, ""]:
    """The fraction of the site's variance that an estimate leaves unexplained."""
    return (x - estimate).square().sum() / (len(x) * variance)


def preact_loss(
    pre: Float[Tensor, "n latents"],
    threshold: Float[Tensor, " latents"] | float,
    variance: float,
    dead: Bool[Tensor, " latents"] | None,
) -> Float[Tensor, ""]:
    """How far dead latents stay below their thresholds, on average; 0 without dead latents."""
    if dead is None or not dead.any():
        return pre.new_zeros(())
    below = (threshold - pre).relu()
    return (below * dead).sum() / (len(pre) * variance**0.5)
