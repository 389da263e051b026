"""Memory kept from step to step, so that no step waits for fresh pages of the system."""

from collections.abc import Iterator
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.sae.kernels.clock import timed

CHUNK = 2**11
"""Bytes of pre-activations a latent in one chunk: 512 rows in single precision."""


class Scratch(dict[str, Tensor]):
    """Flat memory by name."""

    def room(self, name: str, *shape: int, like: Tensor, dtype: Any = None) -> Tensor:
        """Memory of that name, the same at every step; it only grows."""
        kept, dtype, room = self.get(name), dtype or like.dtype, prod(shape)
        fits = kept is not None and len(kept) >= room and kept.device == like.device
        if kept is None or not fits or kept.dtype != dtype:
            kept = self[name] = torch.empty(room, dtype=dtype, device=like.device)
        return kept[:room].view(shape)

    def grow(self, name: str, filled: int, room: int, dtype: Any, likely: int = 0) -> Tensor:
        """Memory for at least so many numbers, of which the first ``filled`` are kept.

        Args:
            name: of the memory.
            filled: how many numbers are in use.
            room: how many there must be.
            dtype: theirs.
            likely: how many there may have to be before long; by default a quarter more.
        """
        kept = self.get(name)
        if kept is None or kept.dtype != dtype or len(kept) < room:
            larger = torch.empty(max(room, likely or room * 5 // 4), dtype=dtype)
            if kept is not None and filled:
                larger[:filled] = kept[:filled]
            kept = self[name] = larger
        return kept

    def products(
        self, source: Float[Tensor, "n d_in"], encoder: Float[Tensor, "latents d_in"], chunk: int
    ) -> Iterator[tuple[int, Tensor]]:
        """Each chunk's first row, and its products with the encoder in one reused buffer.

        Args:
            source: the rows.
            encoder: a row each latent.
            chunk: bytes of products a latent at once.
        """
        rows = min(chunk // source.element_size(), len(source))
        buffer = self.room("pre", rows, len(encoder), like=source)
        for start in range(0, len(source), rows):
            part = source[start : start + rows]
            with timed("encode"):
                found = torch.mm(part, encoder.T, out=buffer[: len(part)])
            yield start, found
