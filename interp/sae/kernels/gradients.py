"""The gradients of a batch that goes through in parts, added up where they are made.

A part's gradient by a whole matrix is as large as the matrix, so to make it and then add it to the
others' costs more passes over memory than short parts save. Here whoever derives a product by the
encoder or the decoder takes the batch's sum and adds to it (`Sums.take`); autograd brings the rest.
"""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from interp.sae.kernels.interface import Weights
from interp.sae.kernels.scratch import Scratch


class Sums:
    """The gradients of a batch, to which each part of it adds its own."""

    def __init__(self, weights: Weights, scratch: Scratch) -> None:
        """For the given weights, in the scratch memory."""
        named = weights.items()
        self.leaves = weights.like([t.detach().requires_grad_() for _, t in named])
        """The weights, for the formulas."""
        self.norms = weights.decoder.detach().norm(dim=1).requires_grad_()
        """The lengths of the decoder's rows, for the formulas; they reach it once a batch."""
        self._sums = {name: scratch.room(f"d_{name}", *t.shape, like=t) for name, t in named}
        self._by_norms = torch.zeros_like(self.norms, requires_grad=False)
        self._begun: set[str] = set()

    def take(self, name: str) -> tuple[Tensor, bool]:
        """The sum by the weights of that name, to be added to, or written if it is the first."""
        first = name not in self._begun
        self._begun.add(name)
        return self._sums[name], first

    def differentiate(self, loss: Float[Tensor, ""]) -> None:
        """Add a part's gradients, the loss counting its share in the batch."""
        leaves = dict(self.leaves.items())
        found = torch.autograd.grad(loss, [*leaves.values(), self.norms], allow_unused=True)
        *by_weights, by_norms = cast(tuple[Tensor | None, ...], found)
        for name, gradient in zip(leaves, by_weights, strict=True):
            if gradient is not None:  # else all of it was added where it was made
                sum_, first = self.take(name)
                sum_.copy_(gradient) if first else sum_.add_(gradient)
        if by_norms is not None:
            self._by_norms += by_norms

    @torch.no_grad()
    def finish(self) -> Weights:
        """The sums, after the last part; a decoder row of zeros has no direction to grow in."""
        for name in self._sums.keys() - self._begun:
            self._sums[name].zero_()
        if self._by_norms.any():
            each = torch.where(self.norms > 0, self._by_norms / self.norms, 0.0)
            self._sums["decoder"].addcmul_(self.leaves.decoder, each[:, None])
        return self.leaves.like(list(self._sums.values()))
