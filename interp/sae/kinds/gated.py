"""Gated: one sublayer says which latents are active, another, with the same directions, how much.

Rajamanoharan et al. 2024, "Improving dictionary learning with gated sparse autoencoders",
2404.16014:

1. gate = (x - b_dec) W_enc + b_gate,   magnitude = (x - b_dec) W_enc · exp(r_mag) + b_mag.
2. z = [gate > 0] · relu(magnitude),   x̂ = z W_dec + b_dec.
3. loss: fraction of variance unexplained + λ · Σ relu(gate) / (n·√v) + that fraction again for
   x̂_gate = relu(gate) W_dec + b_dec, with W_dec and b_dec held constant *as a decoder*. The step
   [gate > 0] passes no gradient, so this last term is what teaches the gate to detect; the L1
   penalty shrinks gate, and z escapes the shrinkage through r_mag and b_mag.
4. Which term reaches what:

                    W_enc  b_gate  r_mag  b_mag  W_dec  b_dec
    unexplained       x      -       x      x      x      x
    sparsity          x      x       -      -      -      in x - b_dec only
    frozen decoder    x      x       -      -      -      in x - b_dec only
    dead latents      x      x       -      -      -      in x - b_dec only

5. Unit decoder rows, as TopK. r_mag, b_mag and b_gate start at zero.
6. Saved as what it is equal to, a threshold encoder (shown in the paper): with
   b_enc = b_mag, W = W_enc · exp(r_mag),  z = relu(pre) · [pre > θ], θ = b_mag - exp(r_mag) b_gate.

λ is free of units and by default 0.2, as L1's. Dead latents: `interp.sae.penalty` on the gate,
with a threshold of 0; the paper resamples them. Else as published, but for the site's variance.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.sae.base import Dictionary, Origin, ThresholdDictionary
from interp.sae.kernels import Backend, Weights
from interp.sae.kernels.pairs import Pairs
from interp.sae.learner import fold
from interp.sae.penalty import L1Architecture, PenaltyLearner, Terms, preact_loss


@dataclass(frozen=True, kw_only=True)
class Gated(L1Architecture):
    """As many latents as pay for themselves, unshrunk; saved as a threshold encoder."""

    kind: ClassVar[str] = "gated"

    def learner(
        self, d_in: int, device: torch.device, backend: Backend | None = None
    ) -> "GatedLearner":
        """See `Architecture.learner`."""
        return GatedLearner(self, d_in, device)

    def dictionary(self, d_in: int, origin: Origin) -> "GatedDictionary":
        """See `Architecture.dictionary`."""
        return GatedDictionary(self, d_in, origin)


class GatedDictionary(ThresholdDictionary):
    """A threshold encoder; every latent has its own threshold."""

    kind = "gated"


class GatedLearner(PenaltyLearner):
    """Trains a gate (the usual encoder and its bias) and a magnitude beside it."""

    def __init__(self, config: Gated, d_in: int, device: torch.device) -> None:
        """Empty weights."""
        latents = config.width(d_in)
        super().__init__(d_in, latents, device, {"r_mag": (latents,), "b_mag": (latents,)})
        self.config = config

    def loss(self, pairs: Pairs, dead: Bool[Tensor, " latents"] | None) -> Terms:
        """See `PenaltyLearner.loss`."""
        weights, projected = pairs.weights, pairs.products()
        gain, b_mag = weights.extra["r_mag"].exp(), weights.extra["b_mag"]
        given = [pairs.each(every) for every in (weights.b_enc, gain, b_mag)]
        z, signal = gate(projected, *given, compiled=pairs.compiled)
        strength = self.config.l1_coefficient * self.config.ramp(self.progress)
        preact = pairs.x.new_zeros(())
        if dead is not None and dead.any():
            preact = preact_loss(pairs, projected + given[0], 0.0, dead)
        return Terms(
            z=z,
            unexplained=pairs.unexplained(z),
            sparsity=strength * signal.sum() / (pairs.n * pairs.variance**0.5),
            aux=pairs.unexplained(signal, frozen=True) + self.config.preact_coefficient * preact,
        )

    def floor(self) -> Float[Tensor, " latents"]:
        """See `PenaltyLearner.floor`; of the gate."""
        return torch.zeros_like(self.weights.b_enc)

    def dictionary(self, empty: Dictionary, scale: float) -> Dictionary:
        """See `Learner.dictionary`."""
        assert isinstance(empty, ThresholdDictionary)
        weights = self.weights
        gain, b_mag = weights.extra["r_mag"].exp(), weights.extra["b_mag"]
        threshold = b_mag - gain * weights.b_enc
        empty.threshold.copy_(threshold.clamp_min(0) / scale)  # a value must be positive besides
        folded = Weights(
            encoder=weights.encoder * gain[:, None],
            b_enc=b_mag,
            decoder=weights.decoder,
            b_dec=weights.b_dec,
        )
        return fold(folded, empty, scale)


def gate(
    products: Float[Tensor, "*pairs"],
    b_gate: Float[Tensor, "*latents"],
    gain: Float[Tensor, "*latents"],
    b_mag: Float[Tensor, "*latents"],
    *,
    compiled: bool = False,
) -> tuple[Float[Tensor, "*pairs"], Float[Tensor, "*pairs"]]:
    """z of step 2 and relu(gate), of products (x - b_dec) W_enc and the exponential of r_mag."""
    if compiled:
        from interp.sae.kernels import rectified

        return rectified.gate(products, b_gate, gain, b_mag)
    opened = products + b_gate
    return (products * gain + b_mag).relu() * (opened > 0), opened.relu()
