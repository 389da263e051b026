"""What each latent of a dictionary contributes to one neuron of its site, exactly.

A dictionary writes x̂ = Σ_j z_j d_j + b, and leaves e = x - x̂. Read off at neuron i, with s = ±1 the
side of it that is looked at,

    s x_i = Σ_j s z_j d_ji  +  s b_i  +  s e_i
            latent j           bias      error

is an identity: nothing is fitted and nothing left over.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from interp.errors import ConfigError, DataError
from interp.features.bases import DictionaryBasis
from interp.store.site import JOINT


@dataclass(frozen=True)
class Contributions:
    """Of latents to one side of a neuron, on some rows."""

    activation: Float64[np.ndarray, " n"]
    """s x_i."""
    latents: Int64[np.ndarray, " m"]
    """The latents that are active on any of the rows."""
    z: Float64[np.ndarray, "n m"]
    """Their activations."""
    each: Float64[np.ndarray, "n m"]
    """Their contributions."""
    bias: float
    """The decoder bias', the same on all rows."""

    @property
    def error(self) -> Float64[np.ndarray, " n"]:
        """What the dictionary does not reconstruct."""
        return self.activation - self.each.sum(axis=1) - self.bias


def contributions(
    basis: DictionaryBasis, x: Float32[np.ndarray, "n width"], neuron: int, sign: int = 1
) -> Contributions:
    """Take rows of a site apart at one neuron.

    Args:
        basis: a dictionary of that site.
        x: rows of the site.
        neuron: which coordinate.
        sign: 1, or -1 for the side below zero.

    Raises:
        ConfigError: the dictionary writes elsewhere than it reads, or reads several sites.
        DataError: the rows are not as wide as the dictionary, or have no such neuron.
    """
    require_one_site(basis)
    dictionary = basis.dictionary
    if not 0 <= neuron < x.shape[1]:
        raise DataError(f"rows {x.shape[1]} wide have no neuron {neuron}")
    with torch.no_grad():
        z = basis.encode(torch.from_numpy(np.ascontiguousarray(x))).float().cpu()
        latents = (z > 0).any(dim=0).nonzero()[:, 0]
        used = z[:, latents].double().numpy()
        weights = dictionary.W_dec[:, neuron].cpu()[latents].double().numpy()
        bias = float(dictionary.b_dec[neuron])
    return Contributions(
        activation=sign * x[:, neuron].astype(np.float64),
        latents=latents.numpy(),
        z=used,
        each=sign * used * weights,
        bias=sign * bias,
    )


def require_one_site(basis: DictionaryBasis) -> None:
    """Refuse what has no exact contributions at the site it reads.

    Raises:
        ConfigError: a transcoder or a crosscoder.
    """
    target = basis.dictionary.origin.target
    if target is not None or JOINT in basis.site:
        what = "transcoder" if target is not None else "crosscoder"
        raise ConfigError(
            f"{basis.name} is a {what}: its latents do not add up to the one site that they read; "
            "choose a dictionary of one site"
        )
