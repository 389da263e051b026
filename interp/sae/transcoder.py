"""Transcoders: sparse latents of one site that predict another, as an MLP's output from its input.

Dunefsky, Chlenski, Nanda 2024, "Transcoders find interpretable LLM feature circuits", 2406.11944;
with a skip path, Paulo, Shabalin, Belrose 2025, "Transcoders beat sparse autoencoders for
interpretability", 2501.18823. With x the source and y the target, both scaled, each by itself:

1. pre = (x - c) W_enc + b_enc,   z = relu(pre) of the k largest per row (TopK) or n·k per batch
   (BatchTopK);   ŷ = z W_dec + b_dec, and with a skip path + (x - c) W_skip.
2. loss: Σ‖y - ŷ‖² / (n·v), v the *target's* variance, + 1/32 · AuxK on what ŷ leaves. So the skip
   path and the latents are trained together, each for what the other does not explain.
3. W_dec and W_skip start at zero and b_dec at the target's mean: at first ŷ is that mean whatever x
   is, as in the second paper's code. Encoder rows start as random unit vectors, b_enc at zero.
4. c, the source's geometric median, is held constant: the formula is that of the papers with
   another bias, and gradients are not those of x's offset. It is folded into the biases saved:
   z and ŷ of *raw* x are

       z = activation(x W_enc + b_enc),   ŷ = z W_dec + b_dec + x W_skip.

Decoder rows are free, as zero rows have no direction: their norms are trained and stay in what is
saved, because a norm moved to the encoder would change which pre-activations are the largest. A
latent's value is therefore in units of its own row.

The step is differentiated by autograd on dense [n, latents] arrays. With 4,096 rows, 576 to 576
dimensions, 4,608 latents and a skip path it took 2.4 s on two cores, where an SAE of that size
takes 0.55 s by the compiled kernels, and 690 MB; ``micro_batch`` divides the memory.
"""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.sae.base import Dictionary
from interp.sae.kernels import Backend, Rule, StepResult, Weights
from interp.sae.kernels.dense import auxk, selected
from interp.sae.learner import Learner, blended
from interp.sae.sparse import SparseArchitecture, SparseLearner


@dataclass(frozen=True, kw_only=True)
class TranscodingArchitecture(SparseArchitecture):
    """Settings of those that can also be trained to predict another site."""

    skip: bool = False
    """Whether a transcoder has a linear path from source to target beside its latents (Paulo et
    al. 2025)."""
    cross_layer: bool = False
    """Whether each latent of a transcoder between joint sites reads one of them and writes its
    partner and all later ones (Ameisen et al. 2025)."""

    def searches(self) -> bool:
        """See `Architecture.searches`."""
        return True

    def label(self, d_in: int) -> str:
        """See `Architecture.label`."""
        return super().label(d_in) + "-clt" * self.cross_layer + "-skip" * self.skip

    def skips(self) -> bool:
        """See `Architecture.skips`."""
        return self.skip

    @abstractmethod
    def learner(
        self, d_in: int, device: torch.device, backend: Backend | None = None
    ) -> SparseLearner:
        """See `Architecture.learner`."""


class TranscoderLearner(Learner):
    """Trains an architecture's latents of ``x[:, :d_in]`` to predict ``x[:, d_in:]``.

    Selection, annealing and thresholds are the architecture's own; only the step's formulas and
    the shapes differ.
    """

    unit_rows = False

    def __init__(
        self, config: TranscodingArchitecture, d_in: int, d_out: int, device: torch.device
    ) -> None:
        """Empty weights.

        Args:
            config: the architecture.
            d_in: width of the source.
            d_out: width of the target.
            device: where they lie.
        """
        extra = {"skip": (d_in, d_out)} if config.skip else None
        super().__init__(d_in, config.width(d_in), device, extra, d_out)
        self.frozen, self._d_in = config.frozen_decoder, d_in
        self._centre = torch.zeros(d_in, device=device)
        self._sparse = config.learner(d_in, device, TranscoderBackend(self._centre))
        self._sparse.weights = self.weights

    def initialise(self, centre: Float[Tensor, " both"], generator: torch.Generator) -> None:
        """Random unit encoder rows, a prediction that is constant: the end of ``centre``."""
        rows = torch.randn(self.weights.encoder.shape, generator=generator, dtype=torch.float32)
        self.weights.encoder.copy_(rows / rows.norm(dim=1, keepdim=True))
        if self.frozen:
            rows = torch.randn(self.weights.decoder.shape, generator=generator)
            self.weights.decoder.copy_(rows / rows.norm(dim=1, keepdim=True))
        self.weights.b_dec.copy_(centre[self._d_in :])
        self._centre.copy_(centre[: self._d_in])

    def turn(self, data: Float[Tensor, "latents both"], share: float) -> None:
        """See `Learner.turn`; what is written stays, the encoder's rows turn to the source."""
        encoder = self.weights.encoder
        encoder.copy_(blended(encoder, data[:, : self._d_in] - self._centre, share))

    def step(
        self, x: Float[Tensor, "n both"], variance: float, dead: Bool[Tensor, " latents"] | None
    ) -> StepResult:
        """See `Learner.step`; ``variance`` is the target's."""
        self._sparse.progress = self.progress
        return self._sparse.step(x, variance, dead)

    def state(self) -> dict[str, Tensor]:
        """See `Learner.state`."""
        return {**self._sparse.state(), "source_centre": self._centre}

    @torch.no_grad()
    def dictionary(self, empty: Dictionary, scale: float) -> Dictionary:
        """See `Learner.dictionary`; the source's centre goes into the biases."""
        filled = self._sparse.dictionary(empty, scale)
        centre = self._centre.double() / scale
        filled.b_enc.sub_(centre @ filled.W_enc.double())
        if filled.W_skip is not None:
            filled.W_skip.copy_(self.weights.extra["skip"])
            filled.b_dec.sub_(centre @ filled.W_skip.double())
        return filled


class TranscoderBackend:
    """The formulas as they are written, differentiated by autograd."""

    def __init__(self, centre: Float[Tensor, " d_in"]) -> None:
        """The source's centre, read anew at every step; its length says where the target begins."""
        self._centre = centre

    def step(
        self,
        weights: Weights,
        x: Float[Tensor, "n both"],
        rule: Rule,
        variance: float,
        dead: Bool[Tensor, " latents"] | None = None,
    ) -> StepResult:
        """See `Backend.step`; each row of ``x`` is source and target side by side."""
        d_in = len(self._centre)
        source, target = x[:, :d_in] - self._centre, x[:, d_in:]
        leaves = [tensor.detach().requires_grad_() for _, tensor in weights.items()]
        with torch.enable_grad():
            encoder, b_enc, decoder, b_dec, *skip = leaves
            pre = torch.addmm(b_enc, source, encoder.T)
            z = selected(pre, rule.k, rule.per)
            error = target - torch.addmm(b_dec, z, decoder)
            if skip:
                error = error - source @ skip[0]
            unexplained = error.square().sum() / (len(x) * variance)
            aux = auxk(pre, error.detach(), decoder, rule, dead)
            loss = unexplained + rule.aux_coefficient * aux
            gradients = weights.like(torch.autograd.grad(loss, leaves))
        active = z.detach() > 0
        return StepResult(
            loss=loss.detach(),
            unexplained=unexplained.detach(),
            aux=aux.detach(),
            gradients=gradients,
            fired=active.any(dim=0),
            l0=active.sum().to(x.dtype) / len(x),
            smallest=z.detach()[active].min() if active.any() else x.new_zeros(()),
        )
