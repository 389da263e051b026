"""Every pair in dense arrays on a CPU: what `pairs.AllPairs` computes, with less work.

1. Autograd derives the products (x - b_dec) · encoder row by x - b_dec too, a matrix product as
   large as the encoder's, of which only the sum over rows is wanted, for b_dec. Here the rows are
   summed first: Σ ∂products · encoder is a matrix-vector product.
2. One compiled pass over the pairs says which latents fired.
3. ``compiled`` tells architectures that their rectifiers may be compiled too (`rectified.py`).
"""

from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.sae.kernels.compiled import even, share
from interp.sae.kernels.pairs import AllPairs
from interp.sae.kernels.rectifying import tally


class DensePairs(AllPairs):
    """Single or double precision on a CPU."""

    compiled: ClassVar[bool] = True

    def products(self) -> Float[Tensor, "n latents"]:
        """See `Pairs.products`."""
        weights = self.weights
        none = torch.zeros_like(weights.b_enc, requires_grad=False)
        return cast(Tensor, _Encode.apply(self.x, weights.encoder, none, weights.b_dec))

    def pre(self) -> Float[Tensor, "n latents"]:
        """See `Pairs.pre`."""
        weights = self.weights
        return cast(Tensor, _Encode.apply(self.x, weights.encoder, weights.b_enc, weights.b_dec))

    def fired(
        self, z: Float[Tensor, "n latents"]
    ) -> tuple[Int[Tensor, " latents"], Float[Tensor, ""]]:
        """See `Pairs.fired`."""
        counts = torch.zeros(z.shape[1], dtype=torch.int64)
        least = z.new_full((z.shape[1],), torch.inf)
        share(tally, even(z.shape[1]), z.numpy(), counts.numpy(), least.numpy())
        smallest = least.min()
        return counts, torch.where(smallest.isinf(), 0.0, smallest)


class _Encode(torch.autograd.Function):
    """(x - b_dec) encoderᵀ + bias; x is data."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, encoder: Tensor, bias: Tensor, b_dec: Tensor) -> Tensor:
        centred = x - b_dec
        ctx.save_for_backward(centred, encoder)
        return torch.addmm(bias, centred, encoder.T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor, Tensor]:
        (g,), (centred, encoder) = gradients, ctx.saved_tensors
        summed = g.sum(dim=0)
        return None, g.T @ centred, summed, -(summed @ encoder)
