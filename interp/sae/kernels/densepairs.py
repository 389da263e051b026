"""Every pair in dense arrays on a CPU: what `pairs.AllPairs` computes, with less work and memory.

1. A batch goes through a few rows at a time. The gradients by both matrices are added to the
   batch's by the matrix products that make them (`gradients.py`), so that short arrays cost no
   passes over gradients.
2. Autograd derives the products (x - b_dec) · encoder row by x - b_dec too, a matrix product as
   large as the encoder's, of which only the sum over rows is wanted, for b_dec. Here the rows are
   summed first: Σ ∂products · encoder is a matrix-vector product.
3. One compiled pass over the pairs says which latents fired.
4. ``compiled`` tells architectures that their rectifiers may be compiled too (`rectified.py`).
"""

from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.sae.kernels.compiled import even, share
from interp.sae.kernels.gradients import Sums
from interp.sae.kernels.pairs import AllPairs
from interp.sae.kernels.rectifying import tally


class DensePairs(AllPairs):
    """Single or double precision on a CPU."""

    compiled: ClassVar[bool] = True

    def __init__(self, sums: Sums, x: Float[Tensor, "n d_in"], variance: float) -> None:
        """Of a part's rows, under the weights whose gradients are summed."""
        super().__init__(sums.leaves, x, variance)
        self._sums = sums

    def products(self) -> Float[Tensor, "n latents"]:
        """See `Pairs.products`."""
        return self._encode(torch.zeros_like(self.weights.b_enc, requires_grad=False))

    def pre(self) -> Float[Tensor, "n latents"]:
        """See `Pairs.pre`."""
        return self._encode(self.weights.b_enc)

    def _encode(self, bias: Tensor) -> Tensor:
        weights = self.weights
        found = _Encode.apply(self.x, weights.encoder, bias, weights.b_dec, self._sums)
        return cast(Tensor, found)

    def norms(self) -> Float[Tensor, " latents"]:
        """See `Pairs.norms`."""
        return self._sums.norms

    def unexplained(self, z: Float[Tensor, "n latents"], *, frozen: bool = False) -> Tensor:
        """See `Pairs.unexplained`."""
        decoder, b_dec = self.weights.decoder, self.weights.b_dec
        if frozen:
            decoder, b_dec = decoder.detach(), b_dec.detach()
        squares = _Squares.apply(z, decoder, b_dec, self.x, self._sums)
        return cast(Tensor, squares) / (self.n * self.variance)

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
    """(x - b_dec) encoderᵀ + bias; x is data, and the encoder's gradient is added to the sums."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, encoder: Tensor, bias: Tensor, b_dec: Tensor, sums: Sums
    ) -> Tensor:
        centred = x - b_dec
        ctx.save_for_backward(centred, encoder)
        ctx.sums = sums
        return torch.addmm(bias, centred, encoder.T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor, Tensor, None]:
        (g,), (centred, encoder) = gradients, ctx.saved_tensors
        _add_product(ctx.sums, "encoder", g.T, centred)
        summed = g.sum(dim=0)
        return None, None, summed, -(summed @ encoder), None


class _Squares(torch.autograd.Function):
    """Σ‖x - z decoder - b_dec‖²; x is data, and the decoder's gradient is added to the sums."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, decoder: Tensor, b_dec: Tensor, x: Tensor, sums: Sums
    ) -> Tensor:
        error = x - torch.addmm(b_dec, z, decoder)
        ctx.save_for_backward(z, decoder, error)
        ctx.sums = sums
        return error.square().sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor | None, None, None]:
        (g,), (z, decoder, error) = gradients, ctx.saved_tensors
        _, by_decoder, by_b_dec, _, _ = ctx.needs_input_grad
        by_estimate = error * (-2 * g)
        if by_decoder:
            _add_product(ctx.sums, "decoder", z.T, by_estimate)
        summed = by_estimate.sum(dim=0) if by_b_dec else None
        return by_estimate @ decoder.T, None, summed, None, None


def _add_product(sums: Sums, name: str, left: Tensor, right: Tensor) -> None:
    sum_, first = sums.take(name)
    torch.addmm(sum_, left, right, beta=0 if first else 1, out=sum_)
