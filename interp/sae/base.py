"""A dictionary as it is used: raw activations in, non-negative latents out, and back.

Training happens elsewhere (`interp.sae.learner`), in scaled coordinates; what is saved here has
the scale folded into its weights, so nobody has to know how it was trained:

    pre = (x - b_dec) W_enc + b_enc
    z   = an activation of pre, non-negative      (the architecture's part)
    x̂   = z W_dec + b_dec,   rows of W_dec of unit norm

A dictionary knows where it came from (`Origin`) by name only, never a model.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.errors import DataError
from interp.sae.architecture import Architecture


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a dictionary was trained on, by name and hash."""

    model: str
    """The model whose activations these are."""
    site: str
    """The site, in its short form such as ``resid_post.9``."""
    store: str
    """The name of the activation store."""
    store_digest: str
    """The hash of the sealed store's manifest."""


class Dictionary(nn.Module):
    """Base of every trained dictionary; a subclass says how pre-activations become latents."""

    kind: ClassVar[str]

    def __init__(self, architecture: Architecture, d_in: int, origin: Origin) -> None:
        """Empty weights of the right shapes, to be loaded.

        Args:
            architecture: the config that trained it.
            d_in: width of the site.
            origin: what it was trained on.
        """
        super().__init__()
        self.config = architecture
        self.d_in = d_in
        self.n_latents = architecture.width(d_in)
        self.origin = origin
        self.W_enc = nn.Parameter(torch.zeros(d_in, self.n_latents))
        self.b_enc = nn.Parameter(torch.zeros(self.n_latents))
        self.W_dec = nn.Parameter(torch.zeros(self.n_latents, d_in))
        self.b_dec = nn.Parameter(torch.zeros(d_in))

    @abstractmethod
    def activate(self, pre: Float[Tensor, "n latents"]) -> Float[Tensor, "n latents"]:
        """Latents from pre-activations."""

    def pre_activations(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n latents"]:
        """Pre-activations of raw activations.

        Raises:
            DataError: the rows are not ``d_in`` wide.
        """
        if x.shape[-1] != self.d_in:
            raise DataError(
                f"this dictionary reads {self.origin.site} of {self.origin.model}, {self.d_in} "
                f"wide, but was given rows {x.shape[-1]} wide; encode activations of that site"
            )
        return torch.addmm(self.b_enc, x.to(self.W_enc.dtype) - self.b_dec, self.W_enc)

    def encode(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n latents"]:
        """Latents of raw activations, all ≥ 0.

        Raises:
            DataError: the rows are not ``d_in`` wide.
        """
        return self.activate(self.pre_activations(x))

    def decode(self, z: Float[Tensor, "n latents"]) -> Float[Tensor, "n d_in"]:
        """Reconstruction from latents, in raw units."""
        return torch.addmm(self.b_dec, z, self.W_dec)

    def forward(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_in"]:
        """Reconstruction of raw activations."""
        return self.decode(self.encode(x))

    def directions(self) -> Float[Tensor, "latents d_in"]:
        """What each latent writes to the site: the decoder's unit rows."""
        return self.W_dec.detach()

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        where = f"{self.origin.model}/{self.origin.site}"
        return f"{self.kind}, {self.d_in} -> {self.n_latents} latents, from {where}"


class ThresholdDictionary(Dictionary):
    """JumpReLU inference: a latent passes its value on where it exceeds its threshold.

    z = pre · [pre > threshold], thresholds ≥ 0 (Rajamanoharan et al. 2024, 2407.14435, eq. 5).
    """

    threshold: Tensor

    def __init__(self, architecture: Architecture, d_in: int, origin: Origin) -> None:
        """See `Dictionary`."""
        super().__init__(architecture, d_in, origin)
        self.register_buffer("threshold", torch.zeros(self.n_latents))

    def activate(self, pre: Float[Tensor, "n latents"]) -> Float[Tensor, "n latents"]:
        """Values above their thresholds, the rest zero."""
        return pre * (pre > self.threshold)
