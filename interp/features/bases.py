"""Bases: ways of cutting one site's activations into non-negative units.

The neurons of the site, the latents of a dictionary and random directions are measured in the same
way, so each is a `Basis`: rows in, ``[rows, units]`` ≥ 0 out, and a direction for each unit.
A unit is *active* on a token where its value is above 0.
"""

import hashlib
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from interp.errors import ConfigError, DataError
from interp.sae import Dictionary
from interp.sae.base import ThresholdDictionary
from interp.store import ActivationStore

SAMPLE_ROWS = 16_384
"""Rows on which the thresholds of random directions are measured."""
RANDOM_DENSITY = 0.01
"""Share of tokens on which a random direction is active."""


@runtime_checkable
class Basis(Protocol):
    """What can be extracted."""

    @property
    def name(self) -> str:
        """The basis' part of a unit's address."""
        ...

    @property
    def site(self) -> str:
        """Short name of the site it reads."""
        ...

    @property
    def kind(self) -> str:
        """``neurons``, ``random``, or a dictionary's architecture."""
        ...

    @property
    def signed(self) -> bool:
        """Whether units 2i and 2i + 1 are the two sides of neuron i."""
        ...

    @property
    def n_units(self) -> int:
        """How many units there are."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of whatever decides what `encode` returns."""
        ...

    def encode(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n units"]:
        """Activations of the units, all ≥ 0."""
        ...

    def directions(self) -> Float[Tensor, "units width"]:
        """What each unit stands for at the site (see `written_site`), as a vector."""
        ...

    def label(self, index: int) -> str:
        """What a unit is called within its basis."""
        ...


class NeuronBasis:
    """The site's own coordinates.

    Where a site takes both signs, its neurons are split into + and - units (index 2i is +, 2i + 1
    is -): a sparse coordinate can stand for one thing above zero and another below.
    """

    name = kind = "neurons"

    def __init__(self, site: str, width: int, *, signed: bool) -> None:
        """Neurons of a site of the given width."""
        self.site, self.width, self.signed = site, width, signed
        self.n_units = 2 * width if signed else width
        self.fingerprint = f"neurons {width} {signed}"

    def encode(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n units"]:
        """Positive parts, and negative parts beside them if the site is signed.

        Raises:
            DataError: the rows are not as wide as the site.
        """
        _check_width(self, x, self.width)
        if not self.signed:
            return x.relu()
        return torch.stack([x.relu(), (-x).relu()], dim=-1).flatten(1)

    def directions(self) -> Float[Tensor, "units width"]:
        """Unit vectors, with their sign."""
        eye = torch.eye(self.width)
        return torch.stack([eye, -eye], dim=1).flatten(0, 1) if self.signed else eye

    def label(self, index: int) -> str:
        """``12+``, ``12-``, or ``12``."""
        return f"{index // 2}{'+-'[index % 2]}" if self.signed else str(index)


class RandomDirections:
    """The control: seeded directions, uniform on the sphere, cut to a sparse density.

    A unit is z = p · [p > t] with p = (x - μ) · u: the projection of the centred row, kept where it
    exceeds the direction's own 1 - density quantile (at least 0). Left unthresholded, a projection
    is active on half of all tokens and comparing it to sparse latents would compare densities.
    """

    name = kind = "random"
    signed = False

    def __init__(
        self,
        site: str,
        sample: Float[Tensor, "rows width"],
        *,
        n: int,
        seed: int,
        densities: Sequence[float] = (RANDOM_DENSITY,),
    ) -> None:
        """Draw ``n`` directions and measure their thresholds on a sample of rows.

        The densities go round: direction i has the i-th, modulo their number.
        """
        self.site, self.n_units, self.width = site, n, sample.shape[1]
        draw = np.random.default_rng([seed, 0x5EED])
        vectors = torch.from_numpy(draw.normal(size=(n, self.width))).float()
        self._vectors = functional.normalize(vectors, dim=1)
        self._mean = sample.mean(dim=0)
        pre = (sample - self._mean) @ self._vectors.T
        kept = [min(max(1, round(each * len(sample))), len(sample) - 1) for each in densities]
        ranked, units = pre.topk(max(kept) + 1, dim=0).values, torch.arange(n)
        self._threshold = ranked[torch.tensor(kept)[units % len(kept)], units].clamp_min(0)
        self.fingerprint = hash_tensors([self._vectors, self._mean, self._threshold])

    def encode(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n units"]:
        """Centred projections above their thresholds, the rest zero.

        Raises:
            DataError: the rows are not as wide as the site.
        """
        _check_width(self, x, self.width)
        pre = (x - self._mean) @ self._vectors.T
        return pre * (pre > self._threshold)

    def directions(self) -> Float[Tensor, "units width"]:
        """The unit vectors."""
        return self._vectors

    def label(self, index: int) -> str:
        """The index."""
        return str(index)


class DictionaryBasis:
    """The latents of a trained dictionary."""

    signed = False

    def __init__(self, dictionary: Dictionary, name: str | None = None) -> None:
        """Wrap a dictionary; by default its name is its architecture's label."""
        self.dictionary = dictionary
        self.name = name or dictionary.config.label(dictionary.d_in)
        self.site, self.kind = dictionary.origin.site, dictionary.kind
        self.n_units = dictionary.n_latents
        self.fingerprint = hash_tensors(
            [tensor for _, tensor in sorted(dictionary.state_dict().items())]
        )

    def encode(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n units"]:
        """Latents of raw activations.

        Raises:
            DataError: the rows are not as wide as the site.
        """
        with torch.no_grad():
            x = x.to(self.dictionary.W_enc.device)
            if isinstance(self.dictionary, ThresholdDictionary):
                # The same values in place: allocating the result anew costs as much as encoding.
                pre = self.dictionary.pre_activations(x)
                return pre.mul_(pre > self.dictionary.threshold)
            return self.dictionary.encode(x)

    def directions(self) -> Float[Tensor, "units width"]:
        """The decoder's rows."""
        return self.dictionary.directions()

    def label(self, index: int) -> str:
        """The index."""
        return str(index)


def written_site(basis: Basis) -> str:
    """The site that a basis' directions belong to: the one it reads, but a transcoder's target."""
    return basis.dictionary.origin.writes if isinstance(basis, DictionaryBasis) else basis.site


def neurons(store: ActivationStore, site: str) -> NeuronBasis:
    """The neurons of a site, split by sign if any activation of the store is negative.

    Raises:
        UnknownName: the store has no such site.
    """
    place = store.site(site)
    return NeuronBasis(place.name, place.width, signed=any_negative(store, place.name))


def random_directions(
    store: ActivationStore,
    site: str,
    n: int | None = None,
    seed: int = 0,
    densities: Sequence[float] = (RANDOM_DENSITY,),
) -> RandomDirections:
    """Random directions as a control; as many as the site is wide unless told otherwise.

    ``densities`` go round: direction i has the i-th, modulo their number.

    Raises:
        UnknownName: the store has no such site.
        ConfigError: ``n`` is below 1.
        DataError: the store has no row besides sinks.
    """
    place = store.site(site)
    count = place.width if n is None else n
    if count < 1:
        raise ConfigError(f"{count} random directions are too few; ask for at least one")
    rows = store.rows_of("all")
    if not len(rows):
        raise DataError(f"store {store.name} has no rows besides attention sinks; capture more")
    # Whole runs of rows from all over the store read faster than single ones.
    runs = np.array_split(rows, max(1, len(rows) // 256))
    keep = np.linspace(0, len(runs) - 1, min(len(runs), SAMPLE_ROWS // 256)).astype(int)
    sample = store.take(place.name, np.concatenate([runs[i] for i in np.unique(keep)]))
    return RandomDirections(
        place.name, torch.from_numpy(sample), n=count, seed=seed, densities=densities
    )


def any_negative(store: ActivationStore, site: str) -> bool:
    """Whether a site goes below zero anywhere; stops at the first block that does."""
    return any(bool((values < 0).any()) for _, values in store.blocks(site))


def _check_width(basis: Basis, x: Tensor, width: int) -> None:
    if x.shape[-1] != width:
        raise DataError(
            f"{basis.name} of {basis.site} are {width} wide, but the rows are {x.shape[-1]} wide; "
            "encode activations of that site"
        )


def hash_tensors(tensors: Sequence[Tensor]) -> str:
    """SHA-256 of tensors' types, shapes and bytes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
        digest.update(plain.numpy().tobytes())
    return digest.hexdigest()
