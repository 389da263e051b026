"""Sparse inputs for toy models: each feature is active with its density, uniform where it is.

One uniform number u decides both: a feature of density p is active where u < p, and u/p is then
uniform in [0, 1].
"""

from collections.abc import Callable

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from interp.errors import ConfigError

Sampler = Callable[[int, torch.Generator], Tensor]
"""Gives so many rows for every instance, ``[instance, batch, feature]``."""


def check_density(*densities: float) -> None:
    """Refuse what is no share of inputs.

    Raises:
        ConfigError: a density is not above 0 and at most 1.
    """
    for density in densities:
        if not 0 < density <= 1:
            raise ConfigError(
                f"density is the share of inputs in which a feature is active: above 0 and at "
                f"most 1, got {density}"
            )


def independent(density: Float[Tensor, "instance feature"], *, signed: bool = False) -> Sampler:
    """Features active independently, uniform in [0, 1], or in [-1, 1] where ``signed``."""

    def draw(batch: int, generator: torch.Generator) -> Tensor:
        instances, features = density.shape
        u = torch.rand(instances, batch, features, generator=generator)
        value = u / density[:, None]
        if signed:
            return torch.where(value < 1, 2 * value - 1, 0)
        return torch.where(value < 1, value, 0)

    return draw


def correlated_pairs(instances: int, pairs: int, density: float) -> Sampler:
    """Features 2i and 2i+1 are always active together, with values of their own."""

    def draw(batch: int, generator: torch.Generator) -> Tensor:
        active = torch.rand(instances, batch, pairs, generator=generator) < density
        value = torch.rand(instances, batch, 2 * pairs, generator=generator)
        return value * repeat(active, "instance batch pair -> instance batch (pair two)", two=2)

    return draw


def anticorrelated_pairs(instances: int, pairs: int, density: float) -> Sampler:
    """Features 2i and 2i+1 are never active together; each is with ``density``, at most ½."""

    def draw(batch: int, generator: torch.Generator) -> Tensor:
        u = torch.rand(instances, batch, pairs, generator=generator)
        active = torch.stack([u < density, (u >= density) & (u < 2 * density)], dim=-1)
        value = torch.rand(instances, batch, 2 * pairs, generator=generator)
        return value * rearrange(active, "instance batch pair two -> instance batch (pair two)")

    return draw
