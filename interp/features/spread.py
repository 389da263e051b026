"""Which neurons a latent uses, read off its dictionary's weights. No torch.

The participation ratio (Σ w²)² / Σ w⁴ of a row of weights is how many neurons it is spread over: 1
if it is one neuron, n if it is n neurons alike.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from safetensors import SafetensorError, safe_open

from interp.errors import ConfigError, FormatError

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Spread:
    """One latent over the neurons of its site."""

    decoder: Float64[np.ndarray, " width"]
    """What one unit of the latent adds to each neuron it writes."""
    encoder: Float64[np.ndarray, " width"]
    """How each neuron it reads drives it."""

    @property
    def written(self) -> float:
        """How many neurons it is written over."""
        return participation(self.decoder)

    @property
    def read(self) -> float:
        """How many neurons it is read from."""
        return participation(self.encoder)


def participation(weights: Float64[np.ndarray, " n"]) -> float:
    """(Σ w²)² / Σ w⁴; NaN of nothing but zeros."""
    squares = np.square(weights.astype(np.float64))
    fourth = float(np.square(squares).sum())
    return float(squares.sum()) ** 2 / fourth if fourth > 0 else float("nan")


def spread(dictionary: Path, latent: int) -> Spread:
    """One latent of a dictionary's folder; reads its two rows and nothing else.

    Raises:
        FormatError: the weights are missing or no safetensors file of a dictionary.
        ConfigError: there is no such latent.
    """
    path = dictionary / WEIGHTS
    try:
        file: Any
        with safe_open(str(path), framework="numpy") as file:
            decoder, encoder = file.get_slice("W_dec"), file.get_slice("W_enc")
            count = int(decoder.get_shape()[0])
            if not 0 <= latent < count:
                raise ConfigError(f"{dictionary.name} has latents 0 to {count - 1}, not {latent}")
            rows = decoder[latent], encoder[:, latent]
    except (OSError, SafetensorError) as error:
        raise FormatError(f"{path} holds no weights of a dictionary ({error})") from error
    return Spread(rows[0].astype(np.float64), rows[1].astype(np.float64).reshape(-1))
