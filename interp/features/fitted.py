"""Classical baselines with the face of a dictionary: PCA, ICA, NMF and online dictionary learning.

Each stands for a row by a few of its components d_i (unit vectors), after Σ c_i d_i + μ ≈ x:

    pca        c = (x - μ) Dᵀ, D orthonormal: keeping the k largest |c| is the best choice of k
    ica        c = (x - μ) A, A the unmixing matrix; D its pseudo-inverse
    nmf        c = argmin over c ≥ 0 of ‖x - c D‖², μ = 0
    dictlearn  c = orthogonal matching pursuit of x - μ, k components
    rotation   c = (x - μ) Dᵀ, D a random orthonormal basis: the control

1. Codes as above, by scikit-learn where they are not linear.
2. All but the k codes of largest |c| become zero: like TopK, a row has at most k active units, so
   baselines and dictionaries compare at equal L0. |c| is the length of what a component adds.
3. Signed codes are split into + and - units, as neurons are.
"""

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from interp.errors import ConfigError, DataError
from interp.features.bases import hash_tensors

SWEEPS = 50
"""Coordinate-descent sweeps over the codes of an NMF row.

Residuals beyond those of exact non-negative least squares, as a share of the row's norm: 1e-7 at
most on 128 components of shakespeare-1l mlp_post.0; on 8 components of condition number 35 4e-4 in
the mean, 1.3e-2 at most.
"""


class FittedBasis:
    """Components of one site and how rows become codes of them."""

    kind: str
    signed: bool = True
    coded_by: ClassVar[tuple[str, ...]] = ("mean", "components")
    """The tensors that decide what `encode` returns; those of the file."""

    def __init__(self, site: str, tensors: Mapping[str, Tensor], k: int, name: str = "") -> None:
        """Components of a site.

        Args:
            site: its short name.
            tensors: those of ``coded_by``: ``mean`` [width], ``components`` [m, width] of unit
                norm, ``analysis`` [width, m].
            k: codes a row keeps; from the number of components on, all.
            name: of the basis; by default the kind.

        Raises:
            ConfigError: k is below 1.
            DataError: the tensors' shapes do not fit each other.
        """
        if k < 1:
            raise ConfigError(f"k must be at least 1, got {k}")
        self.site, self.k, self.name = site, k, name or self.kind
        self.tensors = {each: tensors[each].float() for each in self.coded_by}
        self.mean, self.components = self.tensors["mean"], self.tensors["components"]
        count, self.width = self.components.shape
        analysis = self.tensors.get("analysis")
        if len(self.mean) != self.width or (
            analysis is not None and analysis.shape != (self.width, count)
        ):
            shapes = {each: list(tensor.shape) for each, tensor in self.tensors.items()}
            raise DataError(f"tensors of {self.name} do not fit each other: {shapes}")
        self.n_units = count * (2 if self.signed else 1)
        self.fingerprint = f"{self.kind} {k} {hash_tensors(list(self.tensors.values()))}"

    @abstractmethod
    def codes(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n m"]:
        """Codes of raw activations before all but k are dropped."""

    def keep(self, k: int) -> "FittedBasis":
        """The same components with another k."""
        return type(self)(self.site, self.tensors, k, self.name)

    def encode(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n units"]:
        """Activations of the units, all ≥ 0, at most k of a row above it.

        Raises:
            DataError: the rows are not as wide as the site, or go below zero where nmf cannot.
        """
        if x.shape[-1] != self.width:
            raise DataError(
                f"{self.name} of {self.site} is {self.width} wide, but the rows are {x.shape[-1]} "
                "wide; encode activations of that site"
            )
        codes = self.codes(x.float())
        if self.k < codes.shape[1]:
            chosen = codes.abs().topk(self.k, dim=1, sorted=False).indices
            codes = torch.zeros_like(codes).scatter(1, chosen, codes.gather(1, chosen))
        if not self.signed:
            return codes
        return rearrange([codes.relu(), (-codes).relu()], "side n m -> n (m side)")

    def decode(self, z: Float[Tensor, "n units"]) -> Float[Tensor, "n width"]:
        """Reconstruction from units, in raw units."""
        if self.signed:
            sides = rearrange(z, "n (m side) -> side n m", side=2)
            z = sides[0] - sides[1]
        return torch.addmm(self.mean, z, self.components)

    def directions(self) -> Float[Tensor, "units width"]:
        """The components, with their sign."""
        if not self.signed:
            return self.components
        sides = torch.tensor([1.0, -1.0])
        return (
            repeat(self.components, "m width -> m side width", side=2)
            .mul(sides[:, None])
            .flatten(0, 1)
        )

    def label(self, index: int) -> str:
        """``12+``, ``12-``, or ``12``."""
        return f"{index // 2}{'+-'[index % 2]}" if self.signed else str(index)


class LinearBasis(FittedBasis):
    """Codes are projections of the centred row."""

    coded_by = ("mean", "components", "analysis")

    def codes(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n m"]:
        """See `FittedBasis.codes`."""
        return (x - self.mean) @ self.tensors["analysis"]


class PCABasis(LinearBasis):
    """Principal components, by falling variance."""

    kind = "pca"


class ICABasis(LinearBasis):
    """Independent components."""

    kind = "ica"


class RotationBasis(LinearBasis):
    """A random orthonormal basis."""

    kind = "rotation"


class NMFBasis(FittedBasis):
    """Non-negative components of non-negative rows."""

    kind, signed = "nmf", False

    def codes(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n m"]:
        """See `FittedBasis.codes`; a fixed number of sweeps, so no row depends on the others."""
        from sklearn.decomposition import non_negative_factorization

        if bool((x < 0).any()):
            raise DataError(
                f"nmf of {self.site} reads rows without negative numbers, but some are below zero; "
                "encode activations of that site"
            )
        found, _, _ = non_negative_factorization(
            x.numpy(force=True),
            H=self.components.numpy(),
            n_components=len(self.components),  # type: ignore[reportArgumentType]
            init="custom",
            update_H=False,
            tol=0.0,
            max_iter=SWEEPS,
        )
        return torch.from_numpy(np.ascontiguousarray(found))


class DictLearnBasis(FittedBasis):
    """Atoms of online dictionary learning."""

    kind = "dictlearn"

    def codes(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n m"]:
        """See `FittedBasis.codes`."""
        from sklearn.decomposition import sparse_encode

        k = min(self.k, *self.components.shape)
        centred = (x - self.mean).numpy(force=True)
        with warnings.catch_warnings():
            # A row that fewer than k components make up entirely ends early, and is right.
            warnings.simplefilter("ignore", RuntimeWarning)
            found = sparse_encode(
                centred, self.components.numpy(), algorithm="omp", n_nonzero_coefs=k
            )
        return torch.from_numpy(found).float()


KINDS: Mapping[str, type[FittedBasis]] = {
    each.kind: each for each in (PCABasis, ICABasis, NMFBasis, DictLearnBasis)
}
"""What can be fitted."""


def random_rotation(
    site: str, mean: Float[Tensor, " width"], k: int, seed: int = 0
) -> RotationBasis:
    """The control: an orthonormal basis drawn uniformly, by QR of a Gaussian matrix."""
    draw = np.random.default_rng([seed, 0x0127]).normal(size=(len(mean), len(mean)))
    q, r = np.linalg.qr(draw)
    # Without this the signs of QR's convention would make the draw not uniform.
    basis = torch.from_numpy(q * np.sign(np.diag(r))).float()
    tensors = {"mean": mean.float(), "components": basis.T.contiguous(), "analysis": basis}
    return RotationBasis(site, tensors, k)
