"""Cross-layer transcoders: each latent reads one layer and writes that layer and all later ones.

Ameisen et al. 2025, "Circuit Tracing: Revealing Computational Graphs in Language Models"
(transformer-circuits.pub); Lindsey et al. 2024, "Sparse crosscoders", sect. on causal variants.

The source joins what the layers' MLPs read, ``mlp_in.4+mlp_in.5``, the target what they write,
``mlp_out.4+mlp_out.5``, in the order of the layers. The latents are divided among the layers in
equal runs, and with z_l those of layer l

    z_l = activation((x_l - c_l) W_enc_l + b_enc_l),     ŷ_m = Σ_{l ≤ m} z_l W_dec_lm + b_dec_m.

So it is a transcoder (`interp.sae.transcoder`) of the joint sites, the rest of whose weights is
zero and stays so:

1. W_enc keeps the block of each latent's own layer, W_dec (and W_skip, where there is one) the
   blocks on and after it; initial weights are set to zero elsewhere.
2. Each gradient is set to zero there too. Adam then leaves those weights where they are.

Differences from the first paper: TopK or BatchTopK over the latents of *all* layers together in
place of JumpReLU with a penalty, so that the layers share k; and no gradient of x's offset. The
zeros are stored, and multiplied: this is for a few layers, as the dense step is.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import ConfigError
from interp.sae.kernels import StepResult, Weights
from interp.sae.learner import blended
from interp.sae.transcoder import TranscoderLearner, TranscodingArchitecture
from interp.store.site import columns

Widths = tuple[tuple[int, ...], tuple[int, ...]]
"""Widths of the source's sites and of the target's."""


class CrossLayerLearner(TranscoderLearner):
    """A transcoder's learner whose weights keep to the layers they may connect."""

    def __init__(
        self, config: TranscodingArchitecture, widths: Widths, device: torch.device
    ) -> None:
        """Empty weights.

        Args:
            config: the architecture.
            widths: of the sites read and written, a pair a layer.
            device: where they lie.
        """
        d_in, d_out = map(sum, widths)
        super().__init__(config, d_in, d_out, device)
        self._kept = _kept(config.width(d_in), *widths)
        self._kept = {name: mask.to(device) for name, mask in self._kept.items()}

    def initialise(self, centre: Float[Tensor, " both"], generator: torch.Generator) -> None:
        """As a transcoder's, with the rows' other blocks zero and unit length again."""
        super().initialise(centre, generator)
        _mask(self.weights, self._kept)
        rows = [self.weights.encoder, *([self.weights.decoder] if self.frozen else [])]
        for matrix in rows:
            matrix.div_(matrix.norm(dim=1, keepdim=True))

    def turn(self, data: Float[Tensor, "latents both"], share: float) -> None:
        """As a transcoder's, each latent to what its own site has of its data point."""
        toward = (data[:, : self._d_in] - self._centre) * self._kept["encoder"]
        self.weights.encoder.copy_(blended(self.weights.encoder, toward, share))

    def step(
        self, x: Float[Tensor, "n both"], variance: float, dead: Bool[Tensor, " latents"] | None
    ) -> StepResult:
        """See `Learner.step`."""
        result = super().step(x, variance, dead)
        _mask(result.gradients, self._kept)
        return result


def check(source: Sequence[int], target: Sequence[int], latents: int) -> Widths:
    """The widths of both sides' sites, if they can be layers.

    Raises:
        ConfigError: there are not equally many, only one, or more layers than latents.
    """
    if len(source) != len(target) or len(source) < 2:
        raise ConfigError(
            f"cross_layer pairs each site read with one written, at least two pairs, but "
            f"{len(source)} are read and {len(target)} written; join layers by +, such as "
            "mlp_in.4+mlp_in.5 and mlp_out.4+mlp_out.5"
        )
    if latents < len(source):
        raise ConfigError(f"{latents} latents cannot be divided among {len(source)} layers")
    return tuple(source), tuple(target)


def layers_of(latents: int, layers: int) -> Tensor:
    """The layer that each latent reads, counted from 0: equal runs, as far as they can be."""
    return torch.arange(latents) * layers // latents


def _kept(
    latents: int, source: tuple[int, ...], target: tuple[int, ...]
) -> dict[str, Bool[Tensor, "rows columns"]]:
    """Which entries of each matrix may be other than zero."""
    layer = layers_of(latents, len(source))
    reads, writes = _layer_of_column(source), _layer_of_column(target)
    return {
        "encoder": layer[:, None] == reads,
        "decoder": layer[:, None] <= writes,
        "skip": reads[:, None] <= writes,
    }


def _layer_of_column(widths: tuple[int, ...]) -> Tensor:
    layer = torch.empty(sum(widths), dtype=torch.int64)
    for index, place in enumerate(columns(widths)):
        layer[place] = index
    return layer


def _mask(weights: Weights, kept: dict[str, Bool[Tensor, "rows columns"]]) -> None:
    for name, tensor in weights.items():
        if name in kept:
            tensor.mul_(kept[name])
