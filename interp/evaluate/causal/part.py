"""A unit of any basis as something that can be changed at its site.

With a the unit's activation and d the direction it writes, changing the unit to have activation v
moves the site's activation x along d and nowhere else:

    ablate   x - a d            a neuron becomes 0, a latent's contribution is taken away
    clamp    x + (v - a) d      the unit as if it had activation v
    steer    x + v d            v on top of what is there

What a dictionary does not reconstruct of x stays as it is: x is never replaced by x̂. The + side of
a neuron is active where the neuron is above zero; ablating it leaves the - side alone, and
clamping it sets the neuron itself to v.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ConfigError, DataError
from interp.features.bases import Basis, DictionaryBasis, NeuronBasis
from interp.models import LoadedModel
from interp.store.site import JOINT, Site

Kind = Literal["ablate", "clamp", "steer"]
KINDS: tuple[Kind, ...] = ("ablate", "clamp", "steer")


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """What is done to a unit."""

    kind: Kind = "ablate"
    """Ablate, clamp to a value, or steer by a value."""
    value: float = 0.0
    """The activation clamped to or added, in the unit's own units; ablation takes none."""

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.kind not in KINDS:
            raise ConfigError(f"unknown intervention {self.kind!r}; choose {', '.join(KINDS)}")
        if not abs(self.value) < float("inf"):
            raise ConfigError(f"an intervention's value must be a number, got {self.value}")
        if self.kind == "ablate" and self.value:
            raise ConfigError(f"ablation takes no value, got {self.value:g}; clamp to it instead")


@dataclass(frozen=True)
class Part:
    """One unit at its site."""

    name: str
    """``neurons/12``."""
    site: Site
    direction: Float[Tensor, " width"]
    """What one unit of its activation adds to the site."""
    activation: Callable[[Float[Tensor, "n width"]], Float[Tensor, " n"]]
    """Of rows of the site, never negative."""
    coordinate: bool
    """Whether it is a neuron, which can be read off x below zero as well."""

    def change(
        self, x: Float[Tensor, "n width"], intervention: Intervention
    ) -> Float[Tensor, "n width"]:
        """What an intervention adds to rows of the site."""
        direction = self.direction.to(x.device)
        if intervention.kind == "steer":
            return (intervention.value * direction).expand_as(x)
        if intervention.kind == "clamp" and self.coordinate:
            now = x @ direction
        else:
            now = self.activation(x).to(x)
        return (intervention.value - now)[:, None] * direction


def part(model: LoadedModel, basis: Basis, index: int) -> Part:
    """The unit of a basis that is to be changed in a model.

    Raises:
        ConfigError: there is no such unit, or its basis reads one site and writes another, or
            reads several.
        UnknownName: the model has no such site.
        DataError: the basis does not fit the site.
    """
    if not 0 <= index < basis.n_units:
        raise ConfigError(f"{basis.name} has units 0 to {basis.n_units - 1}, not {index}")
    if JOINT in basis.site:
        raise ConfigError(
            f"{basis.name} is a crosscoder of {basis.site}, and an intervention changes one site; "
            "choose a basis of one site"
        )
    if isinstance(basis, DictionaryBasis) and basis.dictionary.origin.target is not None:
        raise ConfigError(
            f"{basis.name} is a transcoder that reads {basis.site} and writes "
            f"{basis.dictionary.origin.target}; an intervention changes a site where it is read, "
            "so choose a basis of one site"
        )
    site = model.site(basis.site)
    direction = basis.directions()[index].float()
    if len(direction) != site.width:
        raise DataError(
            f"{basis.name} is {len(direction)} wide and {site.name} of {model.name} {site.width}; "
            "choose a basis of that model"
        )

    def activation(x: Tensor) -> Tensor:
        with torch.no_grad():
            return basis.encode(x.detach().float().cpu())[:, index]

    return Part(
        f"{basis.name}/{index}", site, direction, activation, isinstance(basis, NeuronBasis)
    )
