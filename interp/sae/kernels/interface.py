"""What every backend is given and what it gives back.

The step, with x the scaled activations of a batch of n rows and v the site's variance:

    pre    = (x - b_dec) encoderᵀ + b_enc
    z      = relu(pre) where selected, else 0         (k largest per row, or n·k per batch)
    x̂      = z decoder + b_dec
    loss   = Σ‖x - x̂‖² / (n·v)  +  aux_coefficient · aux
    aux    = Σ‖e - ê‖² / Σ‖e - ē‖²                     (Gao et al. 2024, eq. in §2.4 and App. A.2)
    ê      = z_aux decoder,  e = x - x̂ held constant   (no gradient through e nor its variance)
    z_aux  = relu(pre) of the aux_k largest *dead* latents of each row, else 0

The first term is the fraction of variance unexplained: v is a constant of the run, so the term
means the same in every batch. AuxK reaches encoder, b_enc and decoder of dead latents, and b_dec
through ``x - b_dec``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

Search = Literal["full", "bf16", "bf16-near"]
"""From which products active latents are taken; the last may miss one, in one row of 10,000."""


@dataclass(frozen=True)
class Weights:
    """The trained tensors, or their gradients; row j of both matrices belongs to latent j."""

    encoder: Float[Tensor, "latents d_in"]
    b_enc: Float[Tensor, " latents"]
    decoder: Float[Tensor, "latents d_out"]
    """As wide as the encoder, but in a transcoder, which no backend here trains."""
    b_dec: Float[Tensor, " d_out"]
    extra: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """What only some architectures train, by name, such as thresholds; no backend reads it."""

    def items(self) -> list[tuple[str, Tensor]]:
        """Names and tensors, in a fixed order."""
        return [
            ("encoder", self.encoder),
            ("b_enc", self.b_enc),
            ("decoder", self.decoder),
            ("b_dec", self.b_dec),
            *self.extra.items(),
        ]

    def like(self, tensors: Sequence[Tensor]) -> "Weights":
        """Other tensors under the same names, given in the order of `items`."""
        return Weights(*tensors[:4], extra=dict(zip(self.extra, tensors[4:], strict=True)))


@dataclass(frozen=True)
class Rule:
    """Which latents are active, and how dead ones are helped."""

    k: int
    per: Literal["row", "batch"]
    aux_k: int
    aux_coefficient: float


@dataclass(frozen=True)
class StepResult:
    """Losses, gradients and statistics of one batch; scalars stay on the device."""

    loss: Float[Tensor, ""]
    unexplained: Float[Tensor, ""]
    aux: Float[Tensor, ""]
    """Help for dead latents, and any further loss term beside error and sparsity."""
    gradients: Weights
    fired: Bool[Tensor, " latents"]
    l0: Float[Tensor, ""]
    smallest: Float[Tensor, ""]
    """The smallest active value of the batch; 0 when nothing is active."""


@runtime_checkable
class Backend(Protocol):
    """Computes one step; may keep scratch memory, never anything that changes a result.

    Gradients may lie in that memory: they hold until the backend's next step.
    """

    def step(
        self,
        weights: Weights,
        x: Float[Tensor, "n d_in"],
        rule: Rule,
        variance: float,
        dead: Bool[Tensor, " latents"] | None = None,
    ) -> StepResult:
        """Losses and gradients for the batch ``x``.

        Args:
            weights: the current weights; left unchanged.
            x: scaled activations.
            rule: the selection.
            variance: E‖x - E x‖² of the scaled site, a constant of the run.
            dead: the latents that AuxK should help; None or all False means no AuxK.
        """
        ...
