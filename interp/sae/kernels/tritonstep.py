"""The step on a GPU, by Triton: what `sparse.py` computes, its arrays walked once and kept.

1. centred = x - b_dec.
2. For each chunk of rows: the library's matrix product into one reused buffer, the selected entries
   out of it (`tritonselect.py`), with AuxK's among the dead latents.
3. Per row: error, its square, and error · decoder row of every entry (`tritonlists.py`).
4. Entries sorted by latent: both weight gradients per latent, without atomics.
5. ∂loss/∂b_dec = Σ ∂loss/∂x̂ - encoderᵀ ∂loss/∂b_enc.

The device is never waited for where k are taken per row. The batch rule waits once a step for one
number: only the host can have the batch encoded again when the last threshold misled.

With ``products="bfloat16"`` the factors of every product (centred, encoder, decoder, error) are
rounded to bfloat16, and products, sums, selection, losses and gradients are of single precision,
as are the weights that the optimiser steps. This is an approximation, unlike the others.

Lists have n·k slots whatever was found: a slot of value 0 is inactive and reads nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from triton import knobs

from interp.errors import ConfigError
from interp.sae.kernels.interface import Rule, StepResult, Weights
from interp.sae.kernels.tritonlists import gather, reconstruct
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


class TritonBackend:
    """Triton on a GPU. The next step overwrites the gradients of the last."""

    def __init__(self, products: Literal["full", "bfloat16"] = "full") -> None:
        """Empty buffers.

        Args:
            products: the precision of the factors of products.
        """
        self._short = products == "bfloat16"
        self._kept: dict[str, Tensor] = {}
        self._guess: Tensor | None = None  # speeds the batch rule up, never changes its result

    @torch.no_grad()
    def step(
        self,
        weights: Weights,
        x: Float[Tensor, "n d_in"],
        rule: Rule,
        variance: float,
        dead: Bool[Tensor, " latents"] | None = None,
    ) -> StepResult:
        """See `Backend.step`.

        Raises:
            ConfigError: the tensors are not where Triton runs, or of another precision.
        """
        check(x, single=self._short)
        with torch.cuda.device_of(x), torch.autocast(x.device.type, enabled=False):
            return self._step(weights, x, rule, variance, dead)

    def _step(
        self, weights: Weights, x: Tensor, rule: Rule, variance: float, dead: Tensor | None
    ) -> StepResult:
        n, latents = len(x), len(weights.b_enc)
        if rule.aux_k == 0 or rule.aux_coefficient == 0:
            dead = None
        centred = torch.sub(x, weights.b_dec, out=self._buffer("centred", *x.shape, like=x))
        source = self._factor("centred", centred)
        encoder = self._factor("encoder", weights.encoder)
        decoder = self._factor("decoder", weights.decoder)
        main, aux = self._encode(source, encoder, weights.b_enc.contiguous(), rule, dead)

        gradients = Weights(
            encoder=self._buffer("d_encoder", *weights.encoder.shape, like=x),
            b_enc=self._buffer("d_b_enc", latents, like=x),
            decoder=self._buffer("d_decoder", *weights.decoder.shape, like=x),
            b_dec=self._buffer("d_b_dec", *weights.b_dec.shape, like=x),
        )
        error = self._buffer("error", *x.shape, like=source)
        unexplained = self._explain(main, centred, decoder, error) / (n * variance)
        scale = x.new_full((), -2 / (n * variance))
        offsets = self._gather(main, scale, error, source, gradients, fresh=True)
        total = error.sum(dim=0, dtype=x.dtype)
        loss, aux_loss = unexplained, x.new_zeros(())
        if aux is not None and dead is not None:
            spread = (error - total / n).square().sum(dtype=x.dtype)
            helps = dead.any() & (spread > 0)
            part = torch.where(helps, 1 / torch.where(helps, spread, 1), 0)
            left = self._buffer("left", *x.shape, like=source)
            aux_loss = torch.where(helps, self._explain(aux, error, decoder, left) * part, 0)
            loss = unexplained + rule.aux_coefficient * aux_loss
            pull = -2 * rule.aux_coefficient * part
            self._gather(aux, pull, left, source, gradients, fresh=False)
        torch.mul(total, scale, out=gradients.b_dec)
        gradients.b_dec.sub_(gradients.b_enc @ weights.encoder)
        least = torch.where(main.values == 0, torch.inf, main.values).min()
        return StepResult(
            loss=loss,
            unexplained=unexplained,
            aux=aux_loss,
            gradients=gradients,
            fired=offsets[1:] > offsets[:-1],
            l0=offsets[-1].to(x.dtype) / n,
            smallest=torch.where(torch.isinf(least), 0, least),
        )

    def _buffer(self, name: str, *shape: int, like: Tensor, dtype: Any = None) -> Tensor:
        """Memory of that name, the same at every step; it only grows."""
        kept, dtype, room = self._kept.get(name), dtype or like.dtype, prod(shape)
        fits = kept is not None and len(kept) >= room and kept.device == like.device
        if kept is None or not fits or kept.dtype != dtype:
            kept = self._kept[name] = torch.empty(room, dtype=dtype, device=like.device)
        return kept[:room].view(shape)

    def _factor(self, name: str, table: Tensor) -> Tensor:
        """The table as products take it."""
        if not self._short:
            return table.contiguous()
        short = self._buffer(f"{name} short", *table.shape, like=table, dtype=torch.bfloat16)
        return short.copy_(table)

    # -- step 2 ---------------------------------------------------------------------------------

    def _encode(
        self, source: Tensor, encoder: Tensor, bias: Tensor, rule: Rule, dead: Tensor | None
    ) -> tuple[Lists, Lists | None]:
        n, latents = len(source), len(bias)
        aux, allowed = None, None
        if dead is not None:
            aux = self._lists("aux", n, min(rule.aux_k, latents), bias)
            allowed = dead.to(torch.uint8)
        if rule.per == "batch":
            main = self._encode_batch(source, encoder, bias, rule.k, aux, allowed)
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

    def _encode_batch(
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

    # -- steps 3 and 4 --------------------------------------------------------------------------

    def _explain(self, lists: Lists, target: Tensor, decoder: Tensor, error: Tensor) -> Tensor:
        """Σ error² of reconstructing ``target``; error and ``inner`` into buffers."""
        values = lists.values
        squares = self._buffer("squares", len(target), like=values)
        inner = self._buffer("inner", len(values), like=values).zero_()
        entries = (lists.begins, lists.ends, values, lists.latents)
        reconstruct(target, decoder, *entries, error, inner, squares, k=lists.k)
        return squares.sum()

    def _gather(
        self,
        lists: Lists,
        scale: Tensor,
        error: Tensor,
        source: Tensor,
        gradients: Weights,
        *,
        fresh: bool,
    ) -> Tensor:
        """Write or add the lists' gradients; where each latent's entries begin."""
        width = len(gradients.b_enc)
        inner = self._kept["inner"][: len(lists.values)]
        keys = torch.where(lists.values == 0, width, lists.latents)  # inactive slots come last
        ordered, order = keys.sort(stable=True)
        limits = torch.arange(width + 1, dtype=keys.dtype, device=keys.device)
        offsets = torch.searchsorted(ordered, limits)
        entries = (lists.rows[order], lists.values[order], inner[order])
        into = (gradients.encoder, gradients.b_enc, gradients.decoder)
        gather(offsets, *entries, scale, error, source, *into, fresh=fresh)
        return offsets


def check(x: Tensor, *, single: bool) -> None:
    """Refuse what the kernels cannot compute, before they try.

    Args:
        x: a batch.
        single: whether it must be of single precision.

    Raises:
        ConfigError: it is not where Triton runs, or of another precision.
    """
    if x.device.type != "cuda" and not (x.device.type == "cpu" and knobs.runtime.interpret):
        raise ConfigError(
            f"triton steps need a CUDA device, got {x.device}; use another backend, or start with "
            "TRITON_INTERPRET=1, which runs the same kernels on a CPU, thousands of times slower"
        )
    if x.dtype != torch.float32 and (single or x.dtype != torch.float64):
        wanted = "float32" if single else "float32 or float64"
        raise ConfigError(f"these triton steps need {wanted}, got {x.dtype}; cast the batch")


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
