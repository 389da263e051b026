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
from interp.sae.config import TrainConfig
from interp.sae.kernels import StepResult, Weights, has_compiled
from interp.sae.scaling import FITTED_ROWS, evenly


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

    def begin(
        self,
        centre: Float[Tensor, " d_in"],
        sample: Float[Tensor, "n d_in"],
        config: TrainConfig,
    ) -> None:
        """The first weights: `initialise`, `turn` if ``config.data_init`` asks, `fit_encoder`.

        Args:
            centre: of the scaled activations.
            sample: some of them, on the same device as the weights.
            config: the run; its seed governs what is drawn.
        """
        generator = torch.Generator().manual_seed(config.seed)
        self.initialise(centre, generator)
        if config.data_init > 0:
            self.turn(points(sample, len(self.weights.b_enc), generator), config.data_init)
        self.fit_encoder(sample[evenly(len(sample), FITTED_ROWS)])

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

    def turn(self, data: Float[Tensor, "latents d_in"], share: float) -> None:
        """After `initialise`, turn each latent toward its data point (`blended`)."""
        toward = data - self.weights.b_dec
        for rows in (self.weights.encoder, self.weights.decoder):
            rows.copy_(blended(rows, toward, share))

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


def points(
    x: Float[Tensor, "n d_in"], latents: int, generator: torch.Generator
) -> Float[Tensor, "latents d_in"]:
    """A row for each latent, none twice before all were drawn."""
    rounds = -(-latents // len(x))
    drawn = torch.cat([torch.randperm(len(x), generator=generator) for _ in range(rounds)])
    return x[drawn[:latents].to(x.device)]


def blended(
    rows: Float[Tensor, "latents d"], toward: Float[Tensor, "latents d"], share: float
) -> Float[Tensor, "latents d"]:
    """Rows of their own length, turned: share · a unit vector toward + (1 - share) · their own.

    Datapoint initialisation, which Anthropic and P. Peigné came to independently; the former advise
    a share of .8, in crosscoders .4 (as told in saev's documentation, *Datapoint Initialization*).
    Where ``toward`` is zero a row stays as it is.
    """
    own = rows.norm(dim=1, keepdim=True)
    unit = torch.nn.functional.normalize
    turned = share * unit(toward, dim=1) + (1 - share) * unit(rows, dim=1)
    return own * unit(turned, dim=1)


@torch.no_grad()
def fold(weights: Weights, empty: Dictionary, scale: float) -> Dictionary:
    """Write scaled-coordinate weights into a dictionary of raw activations."""
    empty.W_enc.copy_(weights.encoder.T)
    empty.b_enc.copy_(weights.b_enc / scale)
    empty.W_dec.copy_(weights.decoder)
    empty.b_dec.copy_(weights.b_dec / scale)
    return empty
