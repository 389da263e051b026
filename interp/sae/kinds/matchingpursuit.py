"""Matching pursuit: latents are chosen one after another, each by what the last ones left.

Costa, Fel, Lubana, Tolooshams, Ba 2025, "From flat to hierarchical: extracting sparse
representations with matching pursuit", 2506.03093, after Mallat & Zhang 1993:

1. r = x - b_dec. There is no encoder: the decoder's unit rows D are the dictionary on both sides.
2. k times:   j = argmax_i r · D_i,   v = relu(r · D_j),   z_j += v,   r -= v D_j.
3. x̂ = z D + b_dec, so that x - x̂ is what is left of r. A chosen latent's direction is gone from
   r, so the next one explains something else: latents may be correlated or nested, which one look
   at x cannot tell apart.
4. loss: fraction of variance unexplained, differentiated through all steps of the pursuit (which
   latent was chosen is a constant).

Encoding works on correlations alone, c = r Dᵀ: a step subtracts v (D_j Dᵀ) from them. That is
what `MatchingPursuitDictionary.activate` does, with W_enc = Dᵀ and b_enc = 0.

Ours, not the paper's: values are never negative (a row stops when no direction points along r);
the tolerance counts in shares of the row's first value, so that it means the same at any scale;
dead latents are helped by AuxK, in which the dead rows best aligned with the final r explain it
(formula: `interp.sae.kernels.interface`, with pre = r Dᵀ and r held constant).

A pursuit explains more variance with as many latents than one look does, and on noisy data may do
so by fitting the noise (SynthSAEBench, 2602.14687): compare recovery, not reconstruction.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import ConfigError
from interp.sae.base import Dictionary, Origin
from interp.sae.kernels import Backend, Rule, StepResult, Weights
from interp.sae.kernels.dense import auxk
from interp.sae.learner import fold
from interp.sae.penalty import unexplained
from interp.sae.sparse import SparseArchitecture, SparseLearner


@dataclass(frozen=True, kw_only=True)
class MatchingPursuit(SparseArchitecture):
    """At most k latents per token, chosen greedily; one dictionary encodes and decodes."""

    kind: ClassVar[str] = "matchingpursuit"

    tolerance: float = 0.0
    """A row stops before k steps when its next value is below this share of its first."""

    def __post_init__(self) -> None:
        """Check the settings that need no site."""
        super().__post_init__()
        if not 0 <= self.tolerance < 1:
            raise ConfigError(
                f"tolerance is a share of the first value, at least 0 and below 1, got "
                f"{self.tolerance}; 0 always takes k steps"
            )

    def learner(
        self, d_in: int, device: torch.device, backend: Backend | None = None
    ) -> "MatchingPursuitLearner":
        """See `Architecture.learner`."""
        pursuit = backend or PursuitBackend(self.tolerance)
        return MatchingPursuitLearner(self, "row", d_in, device, pursuit)

    def dictionary(self, d_in: int, origin: Origin) -> "MatchingPursuitDictionary":
        """See `Architecture.dictionary`."""
        return MatchingPursuitDictionary(self, d_in, origin)


class MatchingPursuitDictionary(Dictionary):
    """Chooses latents greedily; ``W_enc`` is the decoder's transpose."""

    kind = "matchingpursuit"
    config: MatchingPursuit

    def activate(self, pre: Float[Tensor, "n latents"]) -> Float[Tensor, "n latents"]:
        """The pursuit's values from each row's correlations with all directions."""
        z = torch.zeros_like(pre)
        floor = self.config.tolerance * pre.amax(dim=1)
        for _ in range(self.config.k):
            values, latents = pre.max(dim=1)
            values = values.relu() * (values >= floor)
            z.scatter_add_(1, latents[:, None], values[:, None])
            pre = pre - values[:, None] * (self.W_dec[latents] @ self.W_enc)
        return z


class PursuitBackend:
    """The pursuit as it is written, differentiated by autograd; the encoder is not used."""

    def __init__(self, tolerance: float = 0.0) -> None:
        """See `MatchingPursuit.tolerance`."""
        self.tolerance = tolerance

    def step(
        self,
        weights: Weights,
        x: Float[Tensor, "n d_in"],
        rule: Rule,
        variance: float,
        dead: Bool[Tensor, " latents"] | None = None,
    ) -> StepResult:
        """See `Backend.step`; encoder and b_enc get a gradient of zero."""
        decoder, b_dec = (t.detach().requires_grad_() for t in (weights.decoder, weights.b_dec))
        with torch.enable_grad():
            values, latents, left = pursue(x - b_dec, decoder, rule.k, self.tolerance)
            error = unexplained(left, torch.zeros_like(left), variance)
            held = left.detach()
            aux = auxk(held @ decoder.T, held, decoder, rule, dead)
            loss = error + rule.aux_coefficient * aux
            d_decoder, d_b_dec = torch.autograd.grad(loss, (decoder, b_dec))
        values = values.detach()
        z = x.new_zeros((len(x), len(weights.b_enc))).scatter_add_(1, latents, values)
        active = z > 0
        return StepResult(
            loss=loss.detach(),
            unexplained=error.detach(),
            aux=aux.detach(),
            gradients=replace(
                weights,
                encoder=torch.zeros_like(weights.encoder),
                b_enc=torch.zeros_like(weights.b_enc),
                decoder=d_decoder,
                b_dec=d_b_dec,
            ),
            fired=active.any(dim=0),
            l0=active.sum().to(x.dtype) / len(x),
            smallest=z[active].min() if active.any() else x.new_zeros(()),
        )


class MatchingPursuitLearner(SparseLearner):
    """Trains the decoder and its bias; the encoder follows when it is saved."""

    def fitted_length(self, x: Float[Tensor, "n d_in"]) -> float:
        """See `Learner.fitted_length`: no step reads the encoder."""
        return 1.0

    def dictionary(self, empty: Dictionary, scale: float) -> Dictionary:
        """See `Learner.dictionary`."""
        tied = replace(
            self.weights,
            encoder=self.weights.decoder,
            b_enc=torch.zeros_like(self.weights.b_enc),
        )
        return fold(tied, empty, scale)


def pursue(
    centred: Float[Tensor, "n d_in"],
    decoder: Float[Tensor, "latents d_in"],
    k: int,
    tolerance: float = 0.0,
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"], Float[Tensor, "n d_in"]]:
    """The value and latent of each step, and what is left of the rows after the last."""
    left = centred
    values: list[Tensor] = []
    latents: list[Tensor] = []
    floor = centred.new_zeros(())
    for _ in range(k):
        best = (left.detach() @ decoder.detach().T).argmax(dim=1)
        rows = decoder[best]
        value = (left * rows).sum(dim=1).relu()
        if not values:
            floor = tolerance * value.detach()
        value = value * (value.detach() >= floor)
        left = left - value[:, None] * rows
        values.append(value)
        latents.append(best)
    return torch.stack(values, dim=1), torch.stack(latents, dim=1), left
