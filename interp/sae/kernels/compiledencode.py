"""The second step of `compiledstep.py`: which entries of a batch are active, and their values.

1. For each chunk of rows: products with the encoder into one buffer, and the entries that the rule
   selects out of it (`selecting.py`), with AuxK's among the dead latents.
2. The rule over a batch takes all above a guess: `MARGIN` of the last batch's threshold. What is
   too many is cut exactly; with too few the batch is encoded again, by a lower guess.

With a ``search`` the products of step 1 are taken between rows rounded to bfloat16, and every entry
that could be among the chosen is computed again in full precision (`searching.py`). The values are
then single precision's own, and the selection is that of exact products but for their rounding.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp.sae.kernels.compiled import even, share
from interp.sae.kernels.dense import kth_largest
from interp.sae.kernels.interface import Rule, Search, Weights
from interp.sae.kernels.scratch import CHUNK, Scratch
from interp.sae.kernels.searching import Rounded, bound, likely, pack, rounding, search, seek
from interp.sae.kernels.selecting import above, cut_to, select

MARGIN = 0.9
"""The next batch's candidates are those above this share of the last batch's threshold."""
SPARE = 4
"""Candidates beyond so many times n·k are cut at once, so that a bad guess costs no memory."""

Array = NDArray[Any]
EVERY = np.empty(0, np.int32)


@dataclass
class Lists:
    """Row i's entries lie at ``begins[i]`` up to ``ends[i]``; all values are positive."""

    k: int
    begins: Array
    ends: Array
    values: Array
    latents: Array

    def arrays(self) -> tuple[Array, Array, Array, Array]:
        """In the loops' order."""
        return self.begins, self.ends, self.values, self.latents


@dataclass
class Factors:
    """What is multiplied, and what a search takes besides: how far off each row's products are."""

    source: Tensor
    encoder: Tensor
    more: tuple[Array, ...] = ()

    def numbers(self, pre: Tensor) -> Array:
        """Products as the loops take them; of bfloat16 they take the bits."""
        return (pre.view(torch.int16) if self.more else pre).numpy()


class CompiledEncoder:
    """Finds entries; what it keeps from batch to batch changes the time only."""

    def __init__(self, kept: Scratch, looks: Search) -> None:
        """Use memory that is kept from step to step."""
        self.search: Search = looks
        self.guess: float | None = None
        """Of the batch rule's threshold."""
        self._kept, self._buffer = kept, kept.room

    def __call__(
        self, weights: Weights, centred: Tensor, rule: Rule, helped: Array
    ) -> tuple[Lists, Lists | None]:
        """The entries that the rule selects, and AuxK's among the ``helped`` latents, if any."""
        n, aux = len(centred), None
        factors = self._factors(weights, centred)
        if len(helped):
            aux = self._lists("aux", n, min(rule.aux_k, len(helped)), centred)
        if rule.per == "batch":
            return self._over_batch(weights, factors, rule.k * n, helped, aux), aux
        main = self._lists("main", n, rule.k, centred)
        for start, pre in self._kept.products(factors.source, factors.encoder, CHUNK):
            for lists, columns in ((main, EVERY), (aux, helped)):
                if lists is not None:
                    self._of_rows(lists, columns, start, pre, weights, factors)
        return main, aux

    def _lists(self, name: str, n: int, k: int, like: Tensor) -> Lists:
        """Lists with room for k entries a row."""
        return Lists(
            k,
            np.arange(0, n * k, k) if k else np.zeros(n, np.int64),
            np.zeros(n, np.int64),
            self._buffer(f"{name} values", n * k, like=like).numpy(),
            self._buffer(f"{name} latents", n * k, like=like, dtype=torch.int32).numpy(),
        )

    def _factors(self, weights: Weights, centred: Tensor) -> Factors:
        """Rounded rows where a search is asked for; double precision is never rounded."""
        if self.search == "full" or centred.dtype != torch.float32:
            return Factors(centred, weights.encoder)
        rows = self._rounded("centred", centred)
        latents = self._rounded("encoder", weights.encoder)
        slack = (bound if self.search == "bf16" else likely)(rows, latents)
        full = self._buffer("full", len(centred), like=centred, dtype=torch.int32).zero_().numpy()
        more = (centred.numpy(), weights.encoder.numpy(), slack, full)
        return Factors(rows.short, latents.short, more)

    def _rounded(self, name: str, table: Tensor) -> Rounded:
        """Rows in bfloat16, and their norms."""
        short = self._buffer(f"{name} short", *table.shape, like=table, dtype=torch.bfloat16)
        bits = short.copy_(table).view(torch.int16).numpy()
        sizes, lost = np.empty((len(table), 2)), np.empty((len(table), 2))
        share(rounding, even(len(table)), table.numpy(), bits, sizes, lost)
        return Rounded(short, sizes, lost)

    def _of_rows(
        self,
        lists: Lists,
        columns: Array,
        start: int,
        pre: Tensor,
        weights: Weights,
        factors: Factors,
    ) -> None:
        """The k largest of each row of a chunk, among some columns or all."""
        loop = search if factors.more else select
        given = (start, factors.numbers(pre), weights.b_enc.numpy(), columns, lists.k)
        share(loop, even(len(pre)), *given, lists.ends, lists.values, lists.latents, *factors.more)

    def _over_batch(
        self, weights: Weights, factors: Factors, wanted: int, helped: Array, aux: Lists | None
    ) -> Lists:
        n, bias, like = len(factors.source), weights.b_enc.numpy(), weights.b_enc
        while True:
            main, cut = self._lists("batch", n, 0, like), self.guess
            filled = 0
            for start, pre in self._kept.products(factors.source, factors.encoder, CHUNK):
                stop = start + len(pre)
                if cut is None:
                    cut = _first_guess(pre.to(like.dtype), weights.b_enc, wanted // n)
                given = (start, factors.numbers(pre), bias, cut)
                filled = self._above(main, filled, given, even(len(pre)), factors, like)
                if filled > SPARE * wanted:
                    cut = float(cut_to(wanted, stop, *main.arrays()))
                    filled = wanted
                if aux is not None:
                    self._of_rows(aux, helped, start, pre, weights, factors)
            if filled >= wanted:
                self.guess = MARGIN * float(cut_to(wanted, n, *main.arrays()))
                return main
            self.guess = None
            if cut == 0:
                return main
            assert cut is not None
            # too few candidates: look lower, and at once at all if the last batch overflowed
            self.guess = cut / 2 if 1e-3 < cut < 1e30 else 0.0

    def _above(
        self,
        main: Lists,
        filled: int,
        given: tuple[int, Array, Array, float],
        bounds: list[int],
        factors: Factors,
        like: Tensor,
    ) -> int:
        """Append a chunk's entries above a level; how many there are now."""
        start, stop = given[0], given[0] + bounds[-1]
        part = slice(start, stop)
        loop, where = (seek if factors.more else above), (*given, main.begins, main.ends)
        share(loop, bounds, *where, main.values[:0], main.latents, *factors.more)  # counts
        ends = filled + np.cumsum(main.ends[part])
        main.begins[part] = ends - main.ends[part]
        room = int(ends[-1])
        main.values = self._kept.grow("grown values", filled, room, like.dtype).numpy()
        main.latents = self._kept.grow("grown latents", filled, room, torch.int32).numpy()
        share(loop, bounds, *where, main.values, main.latents, *factors.more)
        if factors.more:  # of what was counted, some is below the level in full
            return int(pack(start, stop, *main.arrays()))
        return room


def _first_guess(pre: Tensor, bias: Tensor, k: int) -> float:
    """A little below the threshold of the first chunk."""
    return max(MARGIN * kth_largest(pre + bias, k * len(pre)), 0.0)
