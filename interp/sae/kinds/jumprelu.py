"""JumpReLU: a latent passes its pre-activation on where it exceeds a threshold of its own.

Rajamanoharan et al. 2024, "Jumping ahead", 2407.14435, with the penalty and the help for dead
latents of Conerly et al. (Anthropic, January 2025 update) as alternatives:

1. z = pre · H(pre - θ), θ = exp(log_threshold), one per latent; x̂ = z W_dec + b_dec.
2. Sparsity, with L0 = Σ H(pre - θ) / n over the batch of n rows:
   ``step``          λ · L0                                     (2407.14435)
   ``tanh``          λ · Σ tanh(c·z) / n                        (January 2025 update)
   ``quadratic-l0``  λ · (L0 / target_l0 - 1)²                  (2407.14435, its discussion)
3. H has no useful derivative, so the expected loss's derivative by θ is estimated from the rows
   that lie within half a bandwidth ε of it (a rectangle kernel):
   ∂z/∂θ = -θ/ε · [|pre - θ| < ε/2],   ∂H/∂θ = -1/ε · [|pre - θ| < ε/2].
   By pre, ∂z = [pre > θ] and ∂H = 0: ``step`` and ``quadratic-l0`` move thresholds only, while
   ``tanh`` reaches encoder and threshold alike, through z.
4. Dead latents: `interp.sae.penalty`, with θ in place (its gradient also lowers θ).
5. Unit decoder rows, initialisation and input scale as TopK.

Bandwidth and thresholds count in scaled coordinates, whose usual size is 1, so that a random unit
encoder row gives pre-activations of spread 1 at any width. The paper's 0.001 for both (rows of
norm 1) is meant for billions of tokens: so few rows fall within that bandwidth that thresholds
hardly move in a short run. The January 2025 update, in the same coordinates as here, starts at
exp(0.1) with a bandwidth of 2; on planted features a start of 1 with a bandwidth of 0.5 recovered
more (mean |cosine| .99 against .97).

Differences from the paper, on purpose: the encoder subtracts b_dec; the loss is divided by the
site's variance; the kernel looks at pre rather than relu(pre), whose zeros lie within half a
bandwidth of every small threshold, and H at pre rather than at z.
"""

from dataclasses import dataclass
from math import log
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import ConfigError
from interp.sae.base import Dictionary, Origin, ThresholdDictionary
from interp.sae.kernels import Backend, Weights
from interp.sae.kernels.pairs import Pairs
from interp.sae.learner import fold
from interp.sae.penalty import (
    PenaltyArchitecture,
    PenaltyLearner,
    Terms,
    check_coefficient,
    preact_loss,
)


@dataclass(frozen=True, kw_only=True)
class JumpReLU(PenaltyArchitecture):
    """As many latents as pay for themselves; saved as a threshold encoder."""

    kind: ClassVar[str] = "jumprelu"

    penalty: Literal["step", "tanh", "quadratic-l0"] = "step"
    """What is penalised: L0, a saturating sum of values, or L0's distance from a target."""
    l0_coefficient: float | None = None
    """Weight λ of the penalty, against a fraction of variance; by default 3e-3, and 0.1 for
    quadratic-l0."""
    target_l0: float = 32.0
    """Active latents per token that quadratic-l0 aims at; the other penalties ignore it."""
    tanh_scale: float = 4.0
    """c of the tanh penalty (Anthropic, January 2025)."""
    bandwidth: float = 0.5
    """Width ε of the kernel that gives thresholds their gradient, in scaled coordinates."""
    threshold: float = 1.0
    """Every latent's threshold at the start, in scaled coordinates."""

    def __post_init__(self) -> None:
        """Check the settings that need no site."""
        super().__post_init__()
        check_coefficient("l0_coefficient", self.coefficient())
        for name in ("target_l0", "tanh_scale", "bandwidth", "threshold"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be a number > 0, got {getattr(self, name)}")

    def check(self, d_in: int) -> None:
        """See `Architecture.check`."""
        super().check(d_in)
        if self.penalty == "quadratic-l0" and self.target_l0 > min(d_in, self.width(d_in)):
            raise ConfigError(
                f"target_l0={self.target_l0:g} is more than the {self.width(d_in)} latents or the "
                f"site's width {d_in}; a sparse dictionary needs it well below both"
            )

    def by_rows(self) -> bool:
        """See `Architecture.by_rows`; quadratic-l0 is of a batch's mean."""
        return self.penalty != "quadratic-l0"

    def coefficient(self) -> float:
        """λ, given or by default."""
        if self.l0_coefficient is not None:
            return self.l0_coefficient
        return 0.1 if self.penalty == "quadratic-l0" else 3e-3

    def label(self, d_in: int) -> str:
        """See `Architecture.label`."""
        if self.penalty == "quadratic-l0":
            return f"{self.kind}-{self.width(d_in)}-l0-{self.target_l0:g}"
        return f"{self.kind}-{self.width(d_in)}-{self.penalty}{self.coefficient():g}"

    def learner(
        self, d_in: int, device: torch.device, backend: Backend | None = None
    ) -> "JumpReLULearner":
        """See `Architecture.learner`."""
        return JumpReLULearner(self, d_in, device)

    def dictionary(self, d_in: int, origin: Origin) -> "JumpReLUDictionary":
        """See `Architecture.dictionary`."""
        return JumpReLUDictionary(self, d_in, origin)


class JumpReLUDictionary(ThresholdDictionary):
    """A threshold encoder; every latent has its own threshold."""

    kind = "jumprelu"


class JumpReLULearner(PenaltyLearner):
    """Also trains one log threshold a latent."""

    def __init__(self, config: JumpReLU, d_in: int, device: torch.device) -> None:
        """Empty weights."""
        latents = config.width(d_in)
        super().__init__(d_in, latents, device, {"log_threshold": (latents,)})
        self.config = config

    def initialise(self, centre: Float[Tensor, " d_in"], generator: torch.Generator) -> None:
        """See `Learner.initialise`."""
        super().initialise(centre, generator)
        self.weights.extra["log_threshold"].fill_(log(self.config.threshold))

    def thresholds(self, weights: Weights) -> Float[Tensor, " latents"]:
        """θ in scaled coordinates."""
        return weights.extra["log_threshold"].exp()

    def loss(self, pairs: Pairs, dead: Bool[Tensor, " latents"] | None) -> Terms:
        """See `PenaltyLearner.loss`."""
        thresholds, pre = self.thresholds(pairs.weights), pairs.pre()
        threshold = pairs.each(thresholds)
        z = jump(pre, threshold, self.config.bandwidth, compiled=pairs.compiled)
        strength = self.config.coefficient() * self.config.ramp(self.progress)
        return Terms(
            z=z,
            unexplained=pairs.unexplained(z),
            sparsity=strength * self._penalty(pairs, pre, threshold, z),
            aux=self.config.preact_coefficient * preact_loss(pairs, pre, thresholds, dead),
        )

    def _penalty(self, pairs: Pairs, pre: Tensor, threshold: Tensor, z: Tensor) -> Tensor:
        if self.config.penalty == "tanh":
            return (self.config.tanh_scale * z).tanh().sum() / pairs.n
        above = count_above(pre, threshold, self.config.bandwidth, compiled=pairs.compiled)
        l0 = above / pairs.n
        return l0 if self.config.penalty == "step" else (l0 / self.config.target_l0 - 1).square()

    def additive(self) -> bool:
        """See `PenaltyLearner.additive`."""
        return self.config.penalty != "quadratic-l0"

    def floor(self) -> Float[Tensor, " latents"]:
        """See `PenaltyLearner.floor`: where the kernel of step 3 begins, and a little lower."""
        return self.thresholds(self.weights) - 0.501 * self.config.bandwidth

    def dictionary(self, empty: Dictionary, scale: float) -> Dictionary:
        """See `Learner.dictionary`."""
        assert isinstance(empty, ThresholdDictionary)
        empty.threshold.copy_(self.thresholds(self.weights) / scale)
        return fold(self.weights, empty, scale)


def jump(
    pre: Float[Tensor, "*pairs"],
    threshold: Float[Tensor, "*latents"],
    bandwidth: float,
    *,
    compiled: bool = False,
) -> Float[Tensor, "*pairs"]:
    """pre · H(pre - threshold), with the estimated derivative by the threshold (step 3)."""
    if compiled:
        from interp.sae.kernels import rectified

        return rectified.jump(pre, threshold, bandwidth)
    return cast(Tensor, _Jump.apply(pre, threshold, bandwidth))


def step(
    pre: Float[Tensor, "*pairs"], threshold: Float[Tensor, "*latents"], bandwidth: float
) -> Float[Tensor, "*pairs"]:
    """H(pre - threshold), with the estimated derivative by the threshold (step 3)."""
    return cast(Tensor, _Step.apply(pre, threshold, bandwidth))


def count_above(
    pre: Float[Tensor, "*pairs"],
    threshold: Float[Tensor, "*latents"],
    bandwidth: float,
    *,
    compiled: bool = False,
) -> Float[Tensor, ""]:
    """Σ `step`."""
    if compiled:
        from interp.sae.kernels import rectified

        return rectified.count_above(pre, threshold, bandwidth)
    return step(pre, threshold, bandwidth).sum()


def _near(pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    return (pre - threshold).abs() < bandwidth / 2


class _Jump(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return pre * (pre > threshold)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (g,) = gradients
        pre, threshold = ctx.saved_tensors
        near = _near(pre, threshold, ctx.bandwidth)
        by_threshold = (g * near).sum_to_size(threshold.shape) * (-threshold / ctx.bandwidth)
        return g * (pre > threshold), by_threshold, None


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pre: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, threshold)
        ctx.bandwidth = bandwidth
        return (pre > threshold).to(pre.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        (g,) = gradients
        pre, threshold = ctx.saved_tensors
        near = _near(pre, threshold, ctx.bandwidth)
        return None, (g * near).sum_to_size(threshold.shape) / -ctx.bandwidth, None
