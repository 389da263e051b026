"""A dictionary while it is trained: weights in scaled coordinates and what one step needs.

With s the input scale, training sees x' = s·x. `fold` returns to raw activations: latents and
biases divided by s, so that encode(x) = z'/s and decode gives x̂ = x̂'/s:

    W_enc = encoderᵀ,  b_enc = b_enc'/s,  W_dec = decoder,  b_dec = b_dec'/s
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.sae.base import Dictionary
from interp.sae.kernels import StepResult, Weights, has_compiled


class Learner(ABC):
    """Weights, their constraint, and the architecture's own state."""

    unit_rows: ClassVar[bool] = True
    """Whether training keeps the decoder's rows at unit norm; if not, `dictionary` folds them."""
    clip: ClassVar[float] = 0.0
    """What gradients are clipped to unless `TrainConfig.clip` says; 0 for none."""

    def __init__(
        self,
        d_in: int,
        latents: int,
        device: torch.device,
        extra: Mapping[str, tuple[int, ...]] | None = None,
        d_out: int | None = None,
    ) -> None:
        """Weights of the right shapes, all zero until `initialise`.

        Args:
            d_in: width of the site.
            latents: number of latents.
            device: where they lie.
            extra: names and shapes of what this architecture trains besides the usual four.
            d_out: width of what is written, if it is another than ``d_in``.
        """
        self.frozen = False
        """Whether the decoder stays as it was drawn."""
        self.lists = has_compiled(device)
        """Whether compiled lists may take the place of dense arrays; the numbers are the same."""
        self.progress = 1.0
        """The share of the run that is done, for schedules; the trainer sets it every step."""
        self.weights = Weights(
            encoder=torch.zeros(latents, d_in, device=device),
            b_enc=torch.zeros(latents, device=device),
            decoder=torch.zeros(latents, d_out or d_in, device=device),
            b_dec=torch.zeros(d_out or d_in, device=device),
            extra={name: torch.zeros(size, device=device) for name, size in (extra or {}).items()},
        )

    @abstractmethod
    def step(
        self, x: Float[Tensor, "n d_in"], variance: float, dead: Bool[Tensor, " latents"] | None
    ) -> StepResult:
        """Losses and gradients of one batch of scaled activations; updates `state` only."""

    @abstractmethod
    def dictionary(self, empty: Dictionary, scale: float) -> Dictionary:
        """Fill an empty dictionary with the current weights, the scale folded in."""

    def state(self) -> dict[str, Tensor]:
        """Tensors beside the weights that a checkpoint must hold; updated in place."""
        return {}

    def initialise(self, centre: Float[Tensor, " d_in"], generator: torch.Generator) -> None:
        """Random unit decoder rows, the encoder tied to them, b_dec at the data's centre.

        Drawn on the CPU, so that a seed means the same weights on every device.
        """
        shape = self.weights.decoder.shape
        rows = torch.randn(shape, generator=generator, dtype=torch.float32)
        rows /= rows.norm(dim=1, keepdim=True)
        self.weights.decoder.copy_(rows)
        self.weights.encoder.copy_(rows)
        self.weights.b_enc.zero_()
        self.weights.b_dec.copy_(centre)

    def fit_encoder(self, x: Float[Tensor, "n d_in"]) -> None:
        """After `initialise`, give the encoder's rows the length that scaled activations want."""
        self.weights.encoder.mul_(self.fitted_length(x))

    def fitted_length(self, x: Float[Tensor, "n d_in"]) -> float:
        """The factor by which `fit_encoder` lengthens; unless an architecture says otherwise 1."""
        return 1.0

    def constrain_gradients(self, gradients: Weights) -> None:
        """Remove from each decoder row's gradient the part along the row, in place.

        A step along the row would be undone by `constrain_weights`, yet fill Adam's moments. A
        frozen decoder's gradient becomes zero.
        """
        if self.frozen:
            gradients.decoder.zero_()
        if self.frozen or not self.unit_rows:
            return
        rows = self.weights.decoder
        along = (gradients.decoder * rows).sum(dim=1, keepdim=True)
        gradients.decoder.addcmul_(along, rows, value=-1)

    def constrain_weights(self) -> None:
        """Return the decoder's rows to unit norm, in place; a frozen one is left alone."""
        if self.frozen or not self.unit_rows:
            return
        rows = self.weights.decoder
        rows.div_(rows.norm(dim=1, keepdim=True).clamp_min_(torch.finfo(rows.dtype).tiny))


@torch.no_grad()
def fold(weights: Weights, empty: Dictionary, scale: float) -> Dictionary:
    """Write scaled-coordinate weights into a dictionary of raw activations."""
    empty.W_enc.copy_(weights.encoder.T)
    empty.b_enc.copy_(weights.b_enc / scale)
    empty.W_dec.copy_(weights.decoder)
    empty.b_dec.copy_(weights.b_dec / scale)
    return empty
