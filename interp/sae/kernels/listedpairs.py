"""The pairs that matter, listed: what `pairs.AllPairs` computes, without its dense arrays.

1. Products of chunks of rows with the encoder into one reused buffer, the pairs above the floor
   out of it. The first chunk decides whether lists pay at all: if more than ``DENSITY`` of its
   pairs lie above, the batch is left to the dense arrays. That is a function of batch and weights
   alone, so a run that was broken off goes on to the same bytes.
2. Σ‖x - x̂‖² and its derivative by every value, error · decoder row, in one pass over the rows.
3. Backwards, per latent: rows of centred x weighted by ∂pre are the encoder's gradient, rows of
   the error weighted by z the decoder's. What lies in between is the architecture's, and autograd
   differentiates it over one-dimensional tensors.
4. What pulls dead latents up is a sum over the rows *below* a threshold, which are most. With
   relu(t) = t + relu(-t) it is one over every row, a product with Σ centred rows, and one over
   the few above.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from interp.sae.kernels.clock import timed
from interp.sae.kernels.compiled import ROW_WRITTEN, balanced, even, share
from interp.sae.kernels.interface import Weights
from interp.sae.kernels.listing import collect, count, explain, gather, order
from interp.sae.kernels.pairs import Pairs
from interp.sae.kernels.scratch import CHUNK, Scratch

DENSITY = 1 / 9
"""The share of pairs up to which lists take less time than dense products."""

Array = NDArray[Any]


@dataclass
class Found:
    """The pairs above their floors, by row and by latent."""

    scratch: Scratch
    centred: Tensor
    starts: Array
    latents: Array
    products: Tensor
    offsets: Array
    rows: Array
    places: Array
    used: int = 0
    """How many reconstructions have their errors in the scratch memory."""

    def gather(self, name: str, weights: Tensor, scale: float, table: Tensor) -> Tensor:
        """Σ scale · weight · row of ``table`` over each latent's pairs."""
        sums = self.scratch.room(name, len(self.offsets) - 1, table.shape[1], like=table)
        sorted_ = (self.offsets, self.rows, self.places)
        given = (weights.contiguous().numpy(), scale, table.numpy(), sums.numpy())
        share(gather, balanced(self.offsets, ROW_WRITTEN), *sorted_, *given)
        return sums

    def per_latent(self, values: Tensor) -> Tensor:
        """Each latent's sum of its pairs' values."""
        sums = np.bincount(self.latents, values.numpy(), minlength=len(self.offsets) - 1)
        return torch.from_numpy(sums).to(values.dtype)


@torch.no_grad()
def find(
    scratch: Scratch,
    weights: Weights,
    x: Float[Tensor, "n d_in"],
    floor: Float[Tensor, " latents"],
) -> Found | None:
    """The pairs whose pre-activation exceeds the latent's floor; None where they are too many.

    What is found lies in the scratch memory, and holds until the next call.
    """
    n, width = len(x), len(weights.b_enc)
    centred = torch.sub(x, weights.b_dec, out=scratch.room("centred", *x.shape, like=x))
    given = (weights.b_enc.numpy(), floor.numpy())
    starts, filled = np.zeros(n + 1, np.int64), 0
    products, latents = x.new_empty(0), np.empty(0, np.int32)
    for begin, some in scratch.products(centred, weights.encoder, CHUNK):
        part = starts[begin + 1 : begin + len(some) + 1]
        share(count, even(len(some)), some.numpy(), *given, part)
        if begin == 0 and part.sum() > DENSITY * some.numel():
            return None
        part[:] = filled + np.cumsum(part)
        room = int(part[-1])
        products = scratch.grow("products", filled, room, x.dtype)
        latents = scratch.grow("latents", filled, room, torch.int32).numpy()
        into = (starts, products.numpy(), latents)
        share(collect, even(len(some)), begin, some.numpy(), *given, *into)
        filled = room
    latents = latents[:filled]
    offsets = scratch.room("offsets", width + 1, like=x, dtype=torch.int64).numpy()
    rows = scratch.room("rows", filled, like=x, dtype=torch.int32).numpy()
    places = scratch.room("places", filled, like=x, dtype=torch.int32).numpy()
    with timed("sort"):
        order(starts, latents, offsets, rows, places)
    return Found(scratch, centred, starts, latents, products[:filled], offsets, rows, places)


class ListedPairs(Pairs):
    """The pairs above their floors, row by row."""

    def __init__(
        self, weights: Weights, x: Float[Tensor, "n d_in"], variance: float, found: Found
    ) -> None:
        """Of pairs that `find` found under the same weights and in the same batch."""
        super().__init__(weights, x, variance)
        self._found = found
        self._products: Tensor | None = None

    def products(self) -> Float[Tensor, "*pairs"]:
        """See `Pairs.products`."""
        if self._products is None:  # once: its gradient lies in scratch memory
            weights = self.weights
            found = _Products.apply(weights.encoder, weights.b_dec, self._found)
            self._products = cast(Tensor, found)
        return self._products

    def pre(self) -> Float[Tensor, "*pairs"]:
        """See `Pairs.pre`."""
        return self.products() + self.each(self.weights.b_enc)

    def each(self, per_latent: Float[Tensor, " latents"]) -> Float[Tensor, "*latents"]:
        """See `Pairs.each`."""
        return cast(Tensor, _Each.apply(per_latent, self._found))

    def unexplained(self, z: Float[Tensor, "*pairs"], *, frozen: bool = False) -> Float[Tensor, ""]:
        """See `Pairs.unexplained`."""
        decoder, b_dec = self.weights.decoder, self.weights.b_dec
        if frozen:
            decoder, b_dec = decoder.detach(), b_dec.detach()
        squares = cast(Tensor, _Squares.apply(z, decoder, b_dec, self._found))
        return squares / (self.n * self.variance)

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
        active = z > 0
        latents = self._found.latents[active.numpy()]
        counts = torch.from_numpy(np.bincount(latents, minlength=len(self.weights.b_enc)))
        return counts, z[active].min() if len(latents) else z.new_zeros(())


class _Products(torch.autograd.Function):
    """The products that were found, as a function of the encoder and b_dec."""

    @staticmethod
    def forward(ctx: Any, encoder: Tensor, b_dec: Tensor, found: Found) -> Tensor:
        ctx.save_for_backward(encoder)
        ctx.found = found
        return found.products.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (g,), (encoder,), found = gradients, ctx.saved_tensors, ctx.found
        by_encoder = found.gather("d_encoder", g, 1.0, found.centred)
        return by_encoder, -(found.per_latent(g) @ encoder), None


class _Each(torch.autograd.Function):
    """A number a latent, for each of its pairs."""

    @staticmethod
    def forward(ctx: Any, per_latent: Tensor, found: Found) -> Tensor:
        ctx.found = found
        return torch.from_numpy(per_latent.detach().numpy()[found.latents])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.found.per_latent(gradients[0].contiguous()), None


class _Sums(torch.autograd.Function):
    """Each latent's sum of its pairs' values."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, found: Found) -> Tensor:
        ctx.found = found
        return found.per_latent(values.detach())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return torch.from_numpy(gradients[0].numpy()[ctx.found.latents]), None


class _Squares(torch.autograd.Function):
    """Σ‖x - z decoder - b_dec‖²."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, decoder: Tensor, b_dec: Tensor, found: Found) -> Tensor:
        scratch, x = found.scratch, found.centred
        found.used += 1
        ctx.error = scratch.room(f"error {found.used}", *x.shape, like=x)
        ctx.inner = scratch.room(f"inner {found.used}", len(z), like=x)
        squares = scratch.room("squares", len(x), like=x).numpy()
        given = (x.numpy(), decoder.numpy(), found.starts, found.latents, z.contiguous().numpy())
        share(explain, even(len(x)), *given, ctx.error.numpy(), ctx.inner.numpy(), squares)
        ctx.save_for_backward(z)
        ctx.found, ctx.name = found, f"d_decoder {found.used}"
        return x.new_tensor(squares.sum(dtype=np.float64))

    @staticmethod
    def backward(
        ctx: Any, *gradients: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        (g,), (z,), found = gradients, ctx.saved_tensors, ctx.found
        scale = -2 * float(g)
        _, decoder, b_dec, _ = ctx.needs_input_grad
        by_decoder = found.gather(ctx.name, z, scale, ctx.error) if decoder else None
        by_b_dec = scale * ctx.error.sum(dim=0) if b_dec else None
        return scale * ctx.inner, by_decoder, by_b_dec, None
