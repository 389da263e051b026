"""The pairs that matter, listed: what `pairs.AllPairs` computes, without its dense arrays.

1. Products of chunks of rows with the encoder into one reused buffer, the pairs above the floor
   out of it. The first chunk decides whether lists pay at all: if more than ``DENSITY`` of its
   pairs lie above, the batch is left to the dense arrays. And how many rows are listed at a time:
   about ``ENTRIES`` pairs. Both are functions of batch and weights alone, so a run that was broken
   off goes on to the same bytes.
2. Σ‖x - x̂‖² and its derivative by every value, error · decoder row, in one pass over the rows.
3. Backwards, per latent: rows of centred x weighted by ∂pre are the encoder's gradient, rows of
   the error weighted by z the decoder's. What lies in between is the architecture's, and autograd
   differentiates it over one-dimensional tensors.
4. What pulls dead latents up is a sum over the rows *below* a threshold, which are most. With
   relu(t) = t + relu(-t) it is one over every row, a product with Σ centred rows, and one over
   the few above.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from interp.sae.kernels.clock import timed
from interp.sae.kernels.compiled import ROW_WRITTEN, balanced, even, share
from interp.sae.kernels.gradients import Sums
from interp.sae.kernels.interface import Weights
from interp.sae.kernels.listing import collect, count, explain, gather, order, tally, total
from interp.sae.kernels.pairs import Pairs
from interp.sae.kernels.scratch import CHUNK, Scratch

DENSITY = 1 / 9
"""The share of pairs up to which lists take less time than dense products."""
ENTRIES = 3 * 2**18
"""Pairs in one list, roughly, where a batch may go through in parts; each part costs a pass over
the gradients by both matrices, each pair some 50 bytes."""

Array = NDArray[Any]


@dataclass
class Found:
    """The pairs above their floors, by row and by latent."""

    scratch: Scratch
    x: Tensor
    centred: Tensor
    starts: Array
    latents: Array
    products: Tensor
    offsets: Array
    rows: Array
    places: Array
    taken: Counter[str] = field(default_factory=Counter[str])
    """Which of the scratch memory is this list's, and how often."""

    def room(self, name: str, *shape: int, like: Tensor) -> Tensor:
        """Scratch memory that nothing else of this list has."""
        self.taken[name] += 1
        again = self.taken[name]
        return self.scratch.room(name if again == 1 else f"{name} {again}", *shape, like=like)

    def gather(
        self, into: tuple[Tensor, bool], weights: Tensor, scale: float, table: Tensor
    ) -> None:
        """Add Σ scale · weight · row of ``table`` over each latent's pairs to what was taken."""
        sums, fresh = into
        sorted_ = (self.offsets, self.rows, self.places)
        given = (weights.contiguous().numpy(), scale, table.numpy(), sums.numpy(), fresh)
        share(gather, balanced(self.offsets, ROW_WRITTEN), *sorted_, *given)

    def each(self, per_latent: Tensor) -> Tensor:
        """A number a latent, for each of its pairs."""
        return per_latent.detach().index_select(0, torch.from_numpy(self.latents))

    def per_latent(self, values: Tensor) -> Tensor:
        """Each latent's sum of its pairs' values."""
        sums = values.new_empty(len(self.offsets) - 1)
        given = (self.offsets, self.places, values.contiguous().numpy(), sums.numpy())
        share(total, balanced(self.offsets, 1), *given)
        return sums


@torch.no_grad()
def find(
    scratch: Scratch,
    weights: Weights,
    x: Float[Tensor, "n d_in"],
    floor: Float[Tensor, " latents"],
    *,
    density: float,
    entries: int | None,
) -> Found | None:
    """The pairs of the first rows whose pre-activation exceeds the latent's floor.

    What is found lies in the scratch memory, and holds until the next call.

    Args:
        scratch: the memory.
        weights: the current weights.
        x: scaled activations.
        floor: of each latent.
        density: the share of pairs that may be above; where more are, None comes back.
        entries: about how many pairs are found at most, if not all: the first rows tell in how many
            rows they are.
    """
    n, width = len(x), len(weights.b_enc)
    centred = torch.sub(x, weights.b_dec, out=scratch.room("centred", *x.shape, like=x))
    given = (weights.b_enc.numpy(), floor.numpy())
    starts, filled = np.zeros(n + 1, np.int64), 0
    products, latents = x.new_empty(0), np.empty(0, np.int32)
    for begin, some in scratch.products(centred, weights.encoder, CHUNK):
        part = starts[begin + 1 : begin + len(some) + 1]
        share(count, even(len(some)), some.numpy(), *given, part)
        if begin == 0:
            if part.sum() > density * some.numel():
                return None
            if entries is not None:
                n = min(n, len(some) * max(1, entries // max(1, int(part.sum()))))
        part[:] = filled + np.cumsum(part)
        room = int(part[-1])
        likely = room * n // (begin + len(some)) * 17 // 16
        products = scratch.grow("products", filled, room, x.dtype, likely)
        latents = scratch.grow("latents", filled, room, torch.int32, likely).numpy()
        into = (starts, products.numpy(), latents)
        share(collect, even(len(some)), begin, some.numpy(), *given, *into)
        filled = room
        if begin + len(some) >= n:
            break
    x, centred, starts, latents = x[:n], centred[:n], starts[: n + 1], latents[:filled]
    offsets = scratch.room("offsets", width + 1, like=x, dtype=torch.int64).numpy()
    rows = scratch.room("rows", filled, like=x, dtype=torch.int32).numpy()
    places = scratch.room("places", filled, like=x, dtype=torch.int32).numpy()
    with timed("sort"):
        order(starts, latents, offsets, rows, places)
    return Found(scratch, x, centred, starts, latents, products[:filled], offsets, rows, places)


class ListedPairs(Pairs):
    """The pairs above their floors, row by row."""

    def __init__(self, sums: Sums, found: Found, variance: float) -> None:
        """Of what `find` found under the weights whose gradients are summed."""
        super().__init__(sums.leaves, found.x, variance)
        self._sums, self._found = sums, found

    def products(self) -> Float[Tensor, "*pairs"]:
        """See `Pairs.products`."""
        weights = self.weights
        found = _Products.apply(weights.encoder, weights.b_dec, self._found, self._sums)
        return cast(Tensor, found)

    def pre(self) -> Float[Tensor, "*pairs"]:
        """See `Pairs.pre`."""
        weights, given = self.weights, (self._found, self._sums)
        return cast(Tensor, _Pre.apply(weights.encoder, weights.b_enc, weights.b_dec, *given))

    def norms(self) -> Float[Tensor, " latents"]:
        """See `Pairs.norms`."""
        return self._sums.norms

    def each(self, per_latent: Float[Tensor, " latents"]) -> Float[Tensor, "*latents"]:
        """See `Pairs.each`."""
        return cast(Tensor, _Each.apply(per_latent, self._found))

    def unexplained(self, z: Float[Tensor, "*pairs"], *, frozen: bool = False) -> Float[Tensor, ""]:
        """See `Pairs.unexplained`."""
        decoder, b_dec = self.weights.decoder, self.weights.b_dec
        if frozen:
            decoder, b_dec = decoder.detach(), b_dec.detach()
        squares = _Squares.apply(z, decoder, b_dec, self._found, self._sums)
        return cast(Tensor, squares) / (self.n * self.variance)

    def below(
        self,
        pre: Float[Tensor, "*pairs"],
        threshold: Float[Tensor, " latents"] | float,
        of: Float[Tensor, " latents"],
    ) -> Float[Tensor, ""]:
        """See `Pairs.below`; step 4."""
        weights, n = self.weights, self.n
        total = self.x.sum(dim=0) - n * weights.b_dec
        everywhere = n * threshold - weights.encoder @ total - n * weights.b_enc
        each = self.each(threshold) if isinstance(threshold, Tensor) else threshold
        return everywhere @ of + (self.each(of) * (pre - each).relu()).sum()

    def sums(self, values: Float[Tensor, "*pairs"]) -> Float[Tensor, " latents"]:
        """See `Pairs.sums`."""
        return cast(Tensor, _Sums.apply(values, self._found))

    def fired(
        self, z: Float[Tensor, "*pairs"]
    ) -> tuple[Int[Tensor, " latents"], Float[Tensor, ""]]:
        """See `Pairs.fired`."""
        found, width = self._found, len(self.weights.b_enc)
        counts = torch.empty(width, dtype=torch.int64)
        least = z.new_empty(width)
        given = (found.offsets, found.places, z.numpy(), counts.numpy(), least.numpy())
        share(tally, balanced(found.offsets, 1), *given)
        smallest = least.min()
        return counts, torch.where(smallest.isinf(), 0.0, smallest)


class _Products(torch.autograd.Function):
    """The products that were found, as a function of the encoder and b_dec."""

    @staticmethod
    def forward(ctx: Any, encoder: Tensor, b_dec: Tensor, found: Found, sums: Sums) -> Tensor:
        ctx.save_for_backward(encoder)
        ctx.found, ctx.sums = found, sums
        return found.products.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None, None]:
        (g,), (encoder,), found = gradients, ctx.saved_tensors, ctx.found
        found.gather(ctx.sums.take("encoder"), g, 1.0, found.centred)
        return None, -(found.per_latent(g) @ encoder), None, None


class _Pre(torch.autograd.Function):
    """The products that were found with b_enc added, as a function of the weights."""

    @staticmethod
    def forward(
        ctx: Any, encoder: Tensor, b_enc: Tensor, b_dec: Tensor, found: Found, sums: Sums
    ) -> Tensor:
        ctx.save_for_backward(encoder)
        ctx.found, ctx.sums = found, sums
        return found.each(b_enc).add_(found.products)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor, None, None]:
        (g,), (encoder,), found = gradients, ctx.saved_tensors, ctx.found
        summed = found.per_latent(g)
        found.gather(ctx.sums.take("encoder"), g, 1.0, found.centred)
        return None, summed, -(summed @ encoder), None, None


class _Each(torch.autograd.Function):
    """A number a latent, for each of its pairs."""

    @staticmethod
    def forward(ctx: Any, per_latent: Tensor, found: Found) -> Tensor:
        ctx.found = found
        return found.each(per_latent)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.found.per_latent(gradients[0]), None


class _Sums(torch.autograd.Function):
    """Each latent's sum of its pairs' values."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, found: Found) -> Tensor:
        ctx.found = found
        return found.per_latent(values.detach())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.found.each(gradients[0]), None


class _Squares(torch.autograd.Function):
    """Σ‖x - z decoder - b_dec‖²."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, decoder: Tensor, b_dec: Tensor, found: Found, sums: Sums
    ) -> Tensor:
        scratch, x = found.scratch, found.centred
        ctx.error = found.room("error", *x.shape, like=x)
        ctx.inner = found.room("inner", len(z), like=x)
        squares = scratch.room("squares", len(x), like=x).numpy()
        given = (x.numpy(), decoder.numpy(), found.starts, found.latents, z.contiguous().numpy())
        share(explain, even(len(x)), *given, ctx.error.numpy(), ctx.inner.numpy(), squares)
        ctx.save_for_backward(z)
        ctx.found, ctx.sums = found, sums
        return x.new_tensor(squares.sum(dtype=np.float64))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor | None, None, None]:
        (g,), (z,), found = gradients, ctx.saved_tensors, ctx.found
        scale = -2 * float(g)
        _, by_decoder, by_b_dec, _, _ = ctx.needs_input_grad
        if by_decoder:
            found.gather(ctx.sums.take("decoder"), z, scale, ctx.error)
        summed = scale * ctx.error.sum(dim=0) if by_b_dec else None
        return scale * ctx.inner, None, summed, None, None
