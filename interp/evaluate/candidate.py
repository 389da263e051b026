"""What is evaluated: dictionaries and classical baselines behind one face.

The controls of a dictionary keep as many components a row as the dictionary has latents active in
the mean (its L0 on held-out rows, rounded), so that all stand at equal L0:

    rotation   a random orthonormal basis, the k largest |c| of a row: random directions
    neurons    the site's own coordinates, the k farthest from their means
    fitted     every basis of the site that `interp fit` made, at the same k
    frozen     every dictionary of the site whose decoder stayed random, at its own L0

A transcoder has none of these beside it but frozen ones: they put rows back where they were read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import ConfigError
from interp.features.fitted import FittedBasis, LinearBasis, random_rotation
from interp.sae import Dictionary
from interp.store.site import JOINT


@dataclass(frozen=True)
class Candidate:
    """Something that turns rows of a site into non-negative units, and those into rows again."""

    name: str
    """Its part of an address."""
    kind: str
    """An architecture, or the kind of a baseline."""
    site: str
    """Short name of the site it reads."""
    units: int
    """How many units."""
    device: torch.device
    """Where it computes."""
    encode: Callable[[Float[Tensor, "n d_in"]], Float[Tensor, "n units"]]
    """Units of raw activations."""
    complete: Callable[
        [Float[Tensor, "n d_in"], Float[Tensor, "n units"]], Float[Tensor, "n d_out"]
    ]
    """Reconstruction of raw activations whose units are known."""
    directions: Callable[[], Float[Tensor, "units d_out"]]
    """What a unit stands for."""
    target: str | None = None
    """Of a transcoder, the site it writes; everything else writes the site it reads."""
    signed: bool = False
    """Whether units 2i and 2i + 1 are the two sides of one direction."""
    k: int | None = None
    """What a baseline was told to keep; None for a dictionary."""

    @property
    def writes(self) -> str:
        """The site that is reconstructed or predicted."""
        return self.target or self.site

    @property
    def reads(self) -> str:
        """All that measuring it takes: its site, and the target beside it if there is one."""
        return self.site if self.target is None else f"{self.site}{JOINT}{self.target}"

    def __call__(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n d_out"]:
        """Reconstruction of raw activations; of a transcoder, the prediction of its target."""
        x = x.to(self.device)
        return self.complete(x, self.encode(x))


def same_sites(candidates: Sequence[Candidate]) -> None:
    """Candidates are measured together only where they read and write the same.

    Raises:
        ConfigError: they do not.
    """
    for each in candidates[1:]:
        if each.reads != candidates[0].reads:
            raise ConfigError(
                f"{each.name} is of {each.reads}, {candidates[0].name} of {candidates[0].reads}; "
                "evaluate them apart"
            )


class NeuronAxes(LinearBasis):
    """The site's coordinates around their means."""

    kind = "neurons"


def candidate(of: Dictionary | FittedBasis, name: str = "") -> Candidate:
    """The face of a dictionary or a baseline; by default under its own name."""
    if isinstance(of, Dictionary):
        return Candidate(
            name or of.config.label(of.d_in),
            of.kind,
            of.origin.site,
            of.n_latents,
            of.W_enc.device,
            of.encode,
            of.complete,
            of.directions,
            of.origin.target,
        )
    return Candidate(
        name or of.name,
        of.kind,
        of.site,
        of.n_units,
        torch.device("cpu"),
        lambda x: of.encode(x.cpu()),
        lambda x, z: of.decode(z),
        of.directions,
        signed=of.signed,
        k=of.k,
    )


def controls(
    mean: Float[Tensor, " d_in"],
    site: str,
    fitted: list[FittedBasis],
    k: int,
    seed: int = 0,
) -> list[Candidate]:
    """The baselines of a site, each at k components a row.

    Args:
        mean: the site's mean over training rows.
        site: its short name.
        fitted: bases of the site that were fitted.
        k: at least 1.
        seed: of the random rotation.
    """
    eye = torch.eye(len(mean))
    tensors = {"mean": mean.float(), "components": eye, "analysis": eye}
    rotation = random_rotation(site, mean, k, seed)
    bases = [rotation, NeuronAxes(site, tensors, k), *(basis.keep(k) for basis in fitted)]
    return [candidate(basis, f"{basis.name}@k{k}") for basis in bases]
