"""Which latents are active, on a GPU: step 2 of `tritonstep.py`.

1. For each chunk of rows the library's matrix product, into one reused buffer.
2. Of each row of it the k largest, or all that reach a guess (`tritonselect.py`); with them the
   largest of the dead latents, for AuxK.
3. Where the batch has a common threshold: too few found, encode again with a lower guess; too
   many, with a higher; else cut to exactly n·k.

The device is never waited for where k are taken per row. The batch rule waits once a step for one
number: only the host can have the batch encoded again when the last threshold misled.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from interp.sae.kernels.interface import Rule
from interp.sae.kernels.scratch import Scratch
from interp.sae.kernels.tritonselect import collect_above, count_above, select

CHUNK = 2**28
"""Bytes of pre-activations at once: 1,024 rows of 65,536 latents."""
MARGIN = 0.9
"""The next batch's candidates are those above this share of the last batch's threshold."""
SPARE = 4
"""Room for candidates, in n·k."""


@dataclass
class Lists:
    """Row i's slots lie at ``begins[i]`` up to ``ends[i]``; values are ≥ 0, and 0 is inactive."""

    k: int
    values: Tensor
    latents: Tensor
    rows: Tensor
    begins: Tensor
    ends: Tensor


class Encoding:
    """Finds a batch's entries; remembers the last batch's threshold."""

    def __init__(self, kept: Scratch) -> None:
        """Use memory kept from step to step."""
        self._buffer = kept.room
        self._guess: Tensor | None = None  # speeds the batch rule up, never changes its result

    def __call__(
        self, source: Tensor, encoder: Tensor, bias: Tensor, rule: Rule, dead: Tensor | None
    ) -> tuple[Lists, Lists | None]:
        """The entries that the rule selects, and those of dead latents for AuxK.

        Args:
            source: the centred rows [n, d_in], as products take them.
            encoder: a row each latent, likewise.
            bias: added to the products, [latents].
            rule: the selection.
            dead: the latents that AuxK helps, a mask; None for no AuxK.
        """
        n, latents = len(source), len(bias)
        aux, allowed = None, None
        if dead is not None:
            aux = self._lists("aux", n, min(rule.aux_k, latents), bias)
            allowed = dead.to(torch.uint8)
        if rule.per == "batch":
            main = self._of_batch(source, encoder, bias, rule.k, aux, allowed)
            return main, aux
        main = self._lists("main", n, rule.k, bias)
        for part, pre in self._products(source, encoder, bias):
            _select(pre, bias, main, part)
            if aux is not None:
                _select(pre, bias, aux, part, allowed)
        return main, aux

    def _lists(self, name: str, n: int, k: int, like: Tensor) -> Lists:
        """Lists of k slots a row."""
        slots = torch.arange(n * k, device=like.device)
        return Lists(
            k,
            self._buffer(f"{name} values", n * k, like=like),
            self._buffer(f"{name} latents", n * k, like=like, dtype=torch.int32),
            slots.div(k, rounding_mode="floor"),
            slots[::k].contiguous(),
            slots[::k] + k,
        )

    def _products(
        self, source: Tensor, encoder: Tensor, like: Tensor
    ) -> Iterator[tuple[slice, Tensor]]:
        """Each chunk's rows, and their products with the encoder in the reused buffer."""
        rows = max(1, min(CHUNK // (len(encoder) * like.element_size()), len(source)))
        buffer = self._buffer("pre", rows, len(encoder), like=like)
        for start in range(0, len(source), rows):
            part = slice(start, min(start + rows, len(source)))
            out = buffer[: part.stop - start]
            if source.dtype == out.dtype:
                torch.mm(source[part], encoder.T, out=out)
            elif out.is_cuda:
                torch.mm(source[part], encoder.T, out_dtype=out.dtype, out=out)
            else:  # the same product: those of rounded factors are exact in single precision
                torch.mm(source[part].to(out.dtype), encoder.T.to(out.dtype), out=out)
            yield part, out

    def _of_batch(
        self,
        source: Tensor,
        encoder: Tensor,
        bias: Tensor,
        k: int,
        aux: Lists | None,
        allowed: Tensor | None,
    ) -> Lists:
        """The n·k largest, or all that are positive."""
        n, device = len(source), source.device
        wanted = room = n * k
        room *= SPARE
        begins = torch.empty(n, dtype=torch.int64, device=device)
        counts = torch.empty(n, dtype=torch.int32, device=device)
        guess = None if self._guess is None else self._guess.to(bias)
        while True:
            values = self._buffer("found values", room, like=bias).zero_()
            latents = self._buffer("found latents", room, like=bias, dtype=torch.int32)
            total = torch.zeros((), dtype=torch.int64, device=device)
            for part, pre in self._products(source, encoder, bias):
                if guess is None:
                    guess = _first_guess(pre, bias, k)
                count_above(pre, bias, guess, counts[part])
                ends = total + counts[part].cumsum(0)
                begins[part] = ends - counts[part]
                total = ends[-1]
                collect_above(pre, bias, guess, begins[part], values, latents)
                if aux is not None:
                    _select(pre, bias, aux, part, allowed)
            assert guess is not None
            found = int(total)  # the one wait for the device
            if found > room:  # look higher, or make room where all that is found is equal
                bound = values.topk(wanted, sorted=False).values.min()
                room, guess = (room, bound) if bool(bound > guess) else (found, guess)
            elif found < wanted and bool(guess > 0):
                guess = guess / 2 if bool(guess > 1e-3) else torch.zeros_like(guess)
            else:
                main, threshold = _cut(values, latents, begins + counts, wanted)
                self._guess = torch.nan_to_num(MARGIN * threshold, posinf=0.0)
                return main


def _select(
    pre: Tensor, bias: Tensor, into: Lists, part: slice, allowed: Tensor | None = None
) -> None:
    """The k largest of a chunk's rows into their slots."""
    values, latents = into.values.view(-1, into.k)[part], into.latents.view(-1, into.k)[part]
    select(pre, bias, values, latents, allowed)


def _first_guess(pre: Tensor, bias: Tensor, k: int) -> Tensor:
    """A little below the threshold of the first chunk."""
    top = (pre + bias).view(-1).topk(k * len(pre), sorted=False).values
    return torch.nan_to_num(MARGIN * top.min(), posinf=0.0).clamp(min=0)


def _cut(values: Tensor, latents: Tensor, ends: Tensor, wanted: int) -> tuple[Lists, Tensor]:
    """The ``wanted`` largest of what was found, ties to the earlier; and the smallest of them.

    All shapes are known beforehand: what is not kept is written to one slot more, and dropped.
    """
    threshold = values.topk(wanted, sorted=False).values.min()
    tied, larger = values == threshold, values > threshold
    keep = larger | (tied & (tied.cumsum(0) <= wanted - larger.sum()))
    places = torch.where(keep, keep.cumsum(0) - 1, wanted)
    slots = torch.arange(len(values), device=values.device)
    rows = torch.searchsorted(ends, slots, right=True).clamp(max=len(ends) - 1)

    def kept(array: Tensor) -> Tensor:
        return array.new_zeros(wanted + 1).scatter_(0, places, array)[:wanted]

    chosen = kept(rows)
    numbers = torch.arange(len(ends), device=values.device)
    begins = torch.searchsorted(chosen, numbers)
    after = torch.searchsorted(chosen, numbers, right=True)
    return Lists(wanted // len(ends), kept(values), kept(latents), chosen, begins, after), threshold
