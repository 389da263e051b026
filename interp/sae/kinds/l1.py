"""L1: a ReLU autoencoder whose latents pay for how much they write.

Conerly et al., Anthropic, April 2024 update ("Update on how we train SAEs"):

1. z = relu((x - b_dec) W_enc + b_enc),   x̂ = z W_dec + b_dec.
2. loss: fraction of variance unexplained + λ · Σ_ij z_ij ‖W_dec_j‖ / (n·√v). Weighted so, the
   penalty cannot be escaped by small values on a large decoder row, and the rows need no
   constraint: their norms are trained, and folded into the encoder when the dictionary is saved.
3. λ rises linearly over the first 5% of the run. Decoder rows start at norm 0.1 and the encoder
   as their transpose.
4. Dead latents: `interp.sae.penalty` with a threshold of 0, weighted by ‖W_dec_j‖ held constant.
5. p-annealing, off by default (Karvonen et al. 2024, "Measuring progress in dictionary learning
   for language model interpretability with board game models", 2408.00113): the penalty becomes
   Σ u^p over the weighted values u = z_ij ‖W_dec_j‖ / √v, and p falls linearly from 1 to ``p_end``,
   which turns a price on size into one on number: large values are shrunk less, small ones
   vanish. Each change of p multiplies λ by Σ u^p_old / Σ u^p_new over the batch at hand, so that
   the penalty goes on from where it was.

λ is free of units: the error counts in v and the values in √v, the site's variance. An active
value is shrunk by λ·√v/2, and one below that is not worth its price. The update's λ = 5, for
rows of norm √d_in and an unnormalised loss, is 5/√d_in here: the default's 0.2 at 576 dimensions.

Differences from the update, on purpose: the encoder subtracts b_dec, which starts at the
geometric median; dead latents are helped (the update had none at its scale).
From p-annealing's paper: p changes a little every step instead of a few times in a run, so that one
batch may stand for many; u^p is taken as (u + δ)^p - δ^p with δ = 0.001, whose slope at zero is
finite.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import ConfigError
from interp.sae.base import Dictionary, Origin
from interp.sae.kernels import Backend, Weights
from interp.sae.kernels.pairs import Pairs
from interp.sae.learner import fold
from interp.sae.penalty import L1Architecture, PenaltyLearner, Terms, preact_loss

DECODER_NORM = 0.1
SMOOTHING = 1e-3
"""δ of p-annealing, in units of the site's standard deviation."""


@dataclass(frozen=True, kw_only=True)
class L1(L1Architecture):
    """As many latents as pay for themselves; values are shrunk."""

    kind: ClassVar[str] = "l1"

    p_end: float = 1.0
    """The penalty's exponent p at the run's end; below 1 it falls from 1 to there (p-annealing)."""
    p_start: float = 0.5
    """Share of the run after which p begins to fall."""

    def __post_init__(self) -> None:
        """Check the settings that need no site."""
        super().__post_init__()
        if not 0 < self.p_end <= 1:
            raise ConfigError(
                f"p_end must lie above 0 and be at most 1, got {self.p_end}; "
                "1 turns p-annealing off"
            )
        if not 0 <= self.p_start < 1:
            raise ConfigError(f"p_start is a share of the run, 0 to below 1, got {self.p_start}")

    def label(self, d_in: int) -> str:
        """See `Architecture.label`."""
        return super().label(d_in) + (f"-p{self.p_end:g}" if self.p_end < 1 else "")

    def by_rows(self) -> bool:
        """See `Architecture.by_rows`; p-annealing compares sums over a batch."""
        return self.p_end == 1

    def exponent(self, progress: float) -> float:
        """p after a share ``progress`` of the run."""
        fallen = max(0.0, progress - self.p_start) / (1 - self.p_start)
        return 1 - (1 - self.p_end) * min(1.0, fallen)

    def learner(
        self, d_in: int, device: torch.device, backend: Backend | None = None
    ) -> "L1Learner":
        """See `Architecture.learner`."""
        return L1Learner(self, d_in, device)

    def dictionary(self, d_in: int, origin: Origin) -> "L1Dictionary":
        """See `Architecture.dictionary`."""
        return L1Dictionary(self, d_in, origin)


class L1Dictionary(Dictionary):
    """Passes positive pre-activations on."""

    kind = "l1"

    def activate(self, pre: Float[Tensor, "n latents"]) -> Float[Tensor, "n latents"]:
        """relu."""
        return pre.relu()


class L1Learner(PenaltyLearner):
    """Leaves the decoder's norms free."""

    unit_rows = False

    def __init__(self, config: L1, d_in: int, device: torch.device) -> None:
        """Empty weights."""
        super().__init__(d_in, config.width(d_in), device)
        self.config = config
        # what p-annealing has come to: the exponent, and what λ has been multiplied by
        self._exponent = torch.ones((), dtype=torch.float64)
        self._factor = torch.ones((), dtype=torch.float64)

    def state(self) -> dict[str, Tensor]:
        """See `Learner.state`."""
        if self.config.p_end == 1:
            return {}
        return {"exponent": self._exponent, "factor": self._factor}

    def observe(self, pairs: Pairs, z: Float[Tensor, "*pairs"]) -> None:
        """See `PenaltyLearner.observe`: take the next exponent, and the coefficient it needs."""
        old, new = float(self._exponent), self.config.exponent(self.progress)
        if old == new:
            return
        norms = pairs.each(self.weights.decoder.norm(dim=1))
        values = z * norms / pairs.variance**0.5
        before, after = (float(power_sum(values, p).double()) for p in (old, new))
        if after > 0:  # else nothing is active, and there is nothing to compare
            self._factor.mul_(before / after)
        self._exponent.fill_(new)

    def initialise(self, centre: Float[Tensor, " d_in"], generator: torch.Generator) -> None:
        """See `Learner.initialise`; rows of norm 0.1, the encoder tied to them."""
        super().initialise(centre, generator)
        self.weights.encoder.mul_(DECODER_NORM)
        self.weights.decoder.mul_(DECODER_NORM)

    def loss(self, pairs: Pairs, dead: Bool[Tensor, " latents"] | None) -> Terms:
        """See `PenaltyLearner.loss`."""
        pre = pairs.pre()
        z = pre.relu()
        norms = pairs.norms()
        strength = self.config.l1_coefficient * self.config.ramp(self.progress)
        price = float(self._factor) * self._price(pairs, z, norms)
        # the norms are held constant here: else dead latents would rather shrink their rows
        preact = preact_loss(pairs, pre, 0.0, dead, norms.detach())
        return Terms(
            z=z,
            unexplained=pairs.unexplained(z),
            sparsity=strength * price / pairs.n,
            aux=self.config.preact_coefficient * preact,
        )

    def _price(self, pairs: Pairs, z: Tensor, norms: Tensor) -> Tensor:
        """The penalty over the batch, before its coefficient."""
        if self._exponent == 1:  # the same sum, latent by latent: one pass over the pairs
            return pairs.sums(z) @ norms / pairs.variance**0.5
        values = z * pairs.each(norms) / pairs.variance**0.5
        return power_sum(values, float(self._exponent))

    def additive(self) -> bool:
        """See `PenaltyLearner.additive`; p-annealing compares sums over the whole batch."""
        return self.config.p_end == 1

    def floor(self) -> Float[Tensor, " latents"]:
        """See `PenaltyLearner.floor`."""
        return torch.zeros_like(self.weights.b_enc)

    def dictionary(self, empty: Dictionary, scale: float) -> Dictionary:
        """See `Learner.dictionary`; rows of unit norm, their norms moved to the encoder."""
        weights = self.weights
        norms = weights.decoder.norm(dim=1, keepdim=True)
        folded = Weights(
            encoder=weights.encoder * norms,
            b_enc=weights.b_enc * norms.squeeze(1),
            decoder=weights.decoder / norms.clamp_min(torch.finfo(norms.dtype).tiny),
            b_dec=weights.b_dec,
        )
        return fold(folded, empty, scale)


def power_sum(values: Float[Tensor, "*pairs"], p: float) -> Float[Tensor, ""]:
    """Σ uᵖ of values ≥ 0, smoothed at zero; their plain sum where p = 1."""
    if p == 1:
        return values.sum()
    return ((values + SMOOTHING).pow(p) - SMOOTHING**p).sum()
