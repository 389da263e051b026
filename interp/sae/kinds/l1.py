"""L1: a ReLU autoencoder whose latents pay for how much they write.

Conerly et al., Anthropic, April 2024 update ("Update on how we train SAEs"):

1. z = relu((x - b_dec) W_enc + b_enc),   x̂ = z W_dec + b_dec.
2. loss: fraction of variance unexplained + λ · Σ_ij z_ij ‖W_dec_j‖ / (n·√v). Weighted so, the
   penalty cannot be escaped by small values on a large decoder row, and the rows need no
   constraint: their norms are trained, and folded into the encoder when the dictionary is saved.
3. λ rises linearly over the first 5% of the run. Decoder rows start at norm 0.1 and the encoder
   as their transpose.
4. Dead latents: `interp.sae.penalty` with a threshold of 0, weighted by ‖W_dec_j‖ held constant.

λ is free of units: the error counts in v and the values in √v, the site's variance. An active
value is shrunk by λ·√v/2, and one below that is not worth its price. The update's λ = 5, for
rows of norm √d_in and an unnormalised loss, is 5/√d_in here: the default's 0.2 at 576 dimensions.

Differences from the update, on purpose: the encoder subtracts b_dec, which starts at the
geometric median; dead latents are helped (the update had none at its scale); no clipping.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.sae.base import Dictionary, Origin
from interp.sae.kernels import Backend, Weights
from interp.sae.learner import fold
from interp.sae.penalty import (
    L1Architecture,
    PenaltyLearner,
    Terms,
    preact_loss,
    unexplained,
)

DECODER_NORM = 0.1


@dataclass(frozen=True, kw_only=True)
class L1(L1Architecture):
    """As many latents as pay for themselves; values are shrunk."""

    kind: ClassVar[str] = "l1"

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

    def initialise(self, centre: Float[Tensor, " d_in"], generator: torch.Generator) -> None:
        """See `Learner.initialise`; rows of norm 0.1, the encoder tied to them."""
        super().initialise(centre, generator)
        self.weights.encoder.mul_(DECODER_NORM)
        self.weights.decoder.mul_(DECODER_NORM)

    def terms(
        self,
        weights: Weights,
        x: Float[Tensor, "n d_in"],
        variance: float,
        dead: Bool[Tensor, " latents"] | None,
    ) -> Terms:
        """See `PenaltyLearner.terms`."""
        pre = torch.addmm(weights.b_enc, x - weights.b_dec, weights.encoder.T)
        z = pre.relu()
        norms = weights.decoder.norm(dim=1)
        strength = self.config.l1_coefficient * self.config.ramp(self.progress)
        # the norms are held constant here: else dead latents would rather shrink their rows
        preact = preact_loss(pre * norms.detach(), 0.0, variance, dead)
        return Terms(
            z=z,
            unexplained=unexplained(x, torch.addmm(weights.b_dec, z, weights.decoder), variance),
            sparsity=strength * (z * norms).sum() / (len(x) * variance**0.5),
            aux=self.config.preact_coefficient * preact,
        )

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
