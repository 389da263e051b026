"""The step on a GPU, by Triton: what `sparse.py` computes, its arrays walked once and kept.

1. centred = x - b_dec.
2. For each chunk of rows: the library's matrix product into one reused buffer, the selected entries
   out of it, with AuxK's among the dead latents (`tritonencode.py`).
3. Per row: error, its square, and error · decoder row of every entry (`tritonlists.py`).
4. Entries sorted by latent: both weight gradients per latent, without atomics.
5. ∂loss/∂b_dec = Σ ∂loss/∂x̂ - encoderᵀ ∂loss/∂b_enc.

Only the batch rule waits for the device, once a step and in step 2; so where k are taken per row a
CUDA graph can be captured around the step.

With ``products="bfloat16"`` the factors of every product (centred, encoder, decoder, error) are
rounded to bfloat16, and products, sums, selection, losses and gradients are of single precision,
as are the weights that the optimiser steps. This is an approximation, unlike the others.

Lists have n·k slots whatever was found: a slot of value 0 is inactive and reads nothing.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from triton import knobs

from interp.errors import ConfigError
from interp.sae.kernels.interface import Rule, StepResult, Weights
from interp.sae.kernels.scratch import Scratch
from interp.sae.kernels.tritonencode import Encoding, Lists
from interp.sae.kernels.tritonlists import gather, reconstruct


class TritonBackend:
    """Triton on a GPU. The next step overwrites the gradients of the last."""

    def __init__(self, products: Literal["full", "bfloat16"] = "full") -> None:
        """Empty buffers.

        Args:
            products: the precision of the factors of products.
        """
        self._short = products == "bfloat16"
        self._kept = Scratch()
        self._buffer = self._kept.room
        self._encode = Encoding(self._kept)

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

    def _factor(self, name: str, table: Tensor) -> Tensor:
        """The table as products take it."""
        if not self._short:
            return table.contiguous()
        short = self._buffer(f"{name} short", *table.shape, like=table, dtype=torch.bfloat16)
        return short.copy_(table)

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
