"""A dictionary as it is used: raw activations in, non-negative latents out, and back.

Training happens elsewhere (`interp.sae.learner`), in scaled coordinates; what is saved here has
the scale folded into its weights, so nobody has to know how it was trained:

    pre = (x - b_dec) W_enc + b_enc
    z   = an activation of pre, non-negative      (the architecture's part)
    x̂   = z W_dec + b_dec,   rows of W_dec of unit norm (but see `interp.sae.scaling`)

A dictionary of several sites is a crosscoder (`interp.sae.crosscoder`). One whose origin names a
target is a transcoder (`interp.sae.transcoder`): x is of the site, x̂ of the target, b_dec is not
subtracted from x, and x̂ may have a linear part x W_skip besides.

A dictionary knows where it came from (`Origin`) by name only, never a model.
"""

from abc import abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.errors import DataError
from interp.sae.architecture import Architecture
from interp.store.site import JOINT


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
    target: str | None = None
    """Of a transcoder, the site that it predicts."""
    target_width: int | None = None
    """Its width."""

    @property
    def reads(self) -> str:
        """All that training reads: the site, and the target beside it if there is one."""
        return self.site if self.target is None else f"{self.site}{JOINT}{self.target}"

    @property
    def writes(self) -> str:
        """The site that is reconstructed or predicted."""
        return self.target or self.site

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary of what there is."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of several sites that a dictionary writes to together."""

    site: str
    """Its name."""
    width: int
    """How many of the columns are its; parts follow one another."""
    scale: float
    """√width over the mean distance of its rows from their centre: the factor that makes the
    norms of different sites comparable."""


class Dictionary(nn.Module):
    """Base of every trained dictionary; a subclass says how pre-activations become latents."""

    kind: ClassVar[str]
    W_skip: nn.Parameter | None

    def __init__(self, architecture: Architecture, d_in: int, origin: Origin) -> None:
        """Empty weights of the right shapes, to be loaded.

        Args:
            architecture: the config that trained it.
            d_in: width of the site.
            origin: what it was trained on.
        """
        super().__init__()
        self.config = architecture
        self.d_in, self.d_out = d_in, origin.target_width or d_in
        self.n_latents = architecture.width(d_in)
        self.origin = origin
        self.parts: tuple[Part, ...] = ()
        """The sites it writes to, where they are several."""
        self.W_enc = nn.Parameter(torch.zeros(d_in, self.n_latents))
        self.b_enc = nn.Parameter(torch.zeros(self.n_latents))
        self.W_dec = nn.Parameter(torch.zeros(self.n_latents, self.d_out))
        self.b_dec = nn.Parameter(torch.zeros(self.d_out))
        skip = nn.Parameter(torch.zeros(d_in, self.d_out)) if architecture.skips() else None
        self.register_parameter("W_skip", skip)

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
        x = x.to(self.W_enc.dtype)
        centred = x - self.b_dec if self.origin.target is None else x
        return torch.addmm(self.b_enc, centred, self.W_enc)

    def encode(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n latents"]:
        """Latents of raw activations, all ≥ 0.

        Raises:
            DataError: the rows are not ``d_in`` wide.
        """
        return self.activate(self.pre_activations(x))

    def decode(self, z: Float[Tensor, "n latents"]) -> Float[Tensor, "n d_out"]:
        """What latents and bias write, in raw units; a skip path, which needs x, is left out."""
        return torch.addmm(self.b_dec, z, self.W_dec)

    def complete(
        self, x: Float[Tensor, "n d_in"], z: Float[Tensor, "n latents"]
    ) -> Float[Tensor, "n d_out"]:
        """What is made of raw activations whose latents are known, a skip path included."""
        written = self.decode(z)
        return written if self.W_skip is None else written + x.to(self.W_skip.dtype) @ self.W_skip

    def forward(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """Reconstruction of raw activations; of a transcoder, the prediction of its target."""
        return self.complete(x, self.encode(x))

    def directions(self) -> Float[Tensor, "latents d_out"]:
        """What each latent writes to the site, or to a transcoder's target: the decoder's rows.

        Of unit norm, except in crosscoders and transcoders and where inputs were scaled per
        dimension or whitened (`interp.sae.scaling`).
        """
        return self.W_dec.detach()

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        where = f"{self.origin.model}/{self.origin.site}"
        where += f" to {self.origin.target}" if self.origin.target else ""
        return f"{self.kind}, {self.d_in} -> {self.n_latents} latents, from {where}"


class ThresholdDictionary(Dictionary):
    """JumpReLU inference: a latent passes its value on where it exceeds its threshold.

    z = pre · [pre > threshold], thresholds ≥ 0 (Rajamanoharan et al. 2024, 2407.14435).
    """

    threshold: Tensor

    def __init__(self, architecture: Architecture, d_in: int, origin: Origin) -> None:
        """See `Dictionary`."""
        super().__init__(architecture, d_in, origin)
        self.register_buffer("threshold", torch.zeros(self.n_latents))

    def activate(self, pre: Float[Tensor, "n latents"]) -> Float[Tensor, "n latents"]:
        """Values above their thresholds, the rest zero."""
        return pre * (pre > self.threshold)
