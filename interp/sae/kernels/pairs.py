"""A batch's pre-activations as a penalty's formulas see them: all, or only those that matter.

An architecture states its loss once, in terms of `Pairs`: tensors over (row, latent) pairs, and
sums over them. `AllPairs` holds every pair in dense [n, latents] arrays and is the truth.
`listedpairs.ListedPairs` holds in one dimension those whose pre-activation lies above the
architecture's floor and leaves the rest out: a pair that is not above its floor must be inactive,
pay nothing and pass no gradient on. Then both give the same numbers, and autograd differentiates
what the architecture wrote, here over all pairs, there over the few that matter.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.sae.kernels.interface import Weights


class Pairs(ABC):
    """The pairs of one batch under given weights, differentiable by them."""

    compiled: ClassVar[bool] = False
    """Whether they are dense arrays that `interp.sae.kernels.rectified` takes."""

    def __init__(self, weights: Weights, x: Float[Tensor, "n d_in"], variance: float) -> None:
        """Of scaled activations ``x``; ``variance`` is the site's, as `Backend.step` takes it."""
        self.weights, self.x, self.variance = weights, x, variance

    @property
    def n(self) -> int:
        """Rows of the batch."""
        return len(self.x)

    @abstractmethod
    def products(self) -> Float[Tensor, "*pairs"]:
        """(x - b_dec) · encoder row of every pair."""

    @abstractmethod
    def pre(self) -> Float[Tensor, "*pairs"]:
        """The pre-activations: `products` + b_enc."""

    @abstractmethod
    def each(self, per_latent: Float[Tensor, " latents"]) -> Float[Tensor, "*latents"]:
        """A number a latent, such that it combines with the pairs."""

    def norms(self) -> Float[Tensor, " latents"]:
        """The lengths of the decoder's rows."""
        return self.weights.decoder.norm(dim=1)

    @abstractmethod
    def unexplained(self, z: Float[Tensor, "*pairs"], *, frozen: bool = False) -> Float[Tensor, ""]:
        """The fraction of the site's variance that z decoder + b_dec leaves unexplained.

        Args:
            z: the latents' values; those of pairs left out are zero.
            frozen: whether the decoder and its bias are held constant, but for x - b_dec.
        """

    @abstractmethod
    def below(
        self,
        pre: Float[Tensor, "*pairs"],
        threshold: Float[Tensor, " latents"] | float,
        of: Float[Tensor, " latents"],
    ) -> Float[Tensor, ""]:
        """Σ of_j · relu(threshold_j - pre_ij) over *all* rows and latents.

        Args:
            pre: as `pre` gives them.
            threshold: at or above every latent's floor.
            of: each latent's weight, held constant.
        """

    @abstractmethod
    def sums(self, values: Float[Tensor, "*pairs"]) -> Float[Tensor, " latents"]:
        """Each latent's sum over the rows; pairs left out count nothing."""

    @abstractmethod
    def fired(
        self, z: Float[Tensor, "*pairs"]
    ) -> tuple[Int[Tensor, " latents"], Float[Tensor, ""]]:
        """On how many rows each latent is positive, and the smallest such value; 0 if none is."""


class AllPairs(Pairs):
    """Dense arrays [n, latents], formulas as they are written."""

    def products(self) -> Float[Tensor, "*pairs"]:
        """See `Pairs.products`."""
        return (self.x - self.weights.b_dec) @ self.weights.encoder.T

    def pre(self) -> Float[Tensor, "*pairs"]:
        """See `Pairs.pre`."""
        weights = self.weights
        return torch.addmm(weights.b_enc, self.x - weights.b_dec, weights.encoder.T)

    def each(self, per_latent: Float[Tensor, " latents"]) -> Float[Tensor, "*latents"]:
        """See `Pairs.each`."""
        return per_latent

    def unexplained(self, z: Float[Tensor, "*pairs"], *, frozen: bool = False) -> Float[Tensor, ""]:
        """See `Pairs.unexplained`."""
        decoder, b_dec = self.weights.decoder, self.weights.b_dec
        if frozen:
            decoder, b_dec = decoder.detach(), b_dec.detach()
        error = self.x - torch.addmm(b_dec, z, decoder)
        return error.square().sum() / (self.n * self.variance)

    def below(
        self,
        pre: Float[Tensor, "*pairs"],
        threshold: Float[Tensor, " latents"] | float,
        of: Float[Tensor, " latents"],
    ) -> Float[Tensor, ""]:
        """See `Pairs.below`."""
        return ((threshold - pre).relu() * of).sum()

    def sums(self, values: Float[Tensor, "*pairs"]) -> Float[Tensor, " latents"]:
        """See `Pairs.sums`."""
        return values.sum(dim=0)

    def fired(
        self, z: Float[Tensor, "*pairs"]
    ) -> tuple[Int[Tensor, " latents"], Float[Tensor, ""]]:
        """See `Pairs.fired`."""
        active = z > 0
        smallest = torch.where(active, z, torch.inf).min()
        return active.sum(dim=0), torch.where(smallest.isinf(), 0.0, smallest)
