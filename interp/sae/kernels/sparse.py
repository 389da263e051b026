"""The step from index lists: one dense [chunk, latents] scratch buffer, everything else sparse.

1. centred = x - b_dec.
2. For each chunk of rows: pre-activations into one reused buffer; keep only the selected values
   and their latents (and, if latents are dead, those of the aux_k best dead ones).
3. x̂ = Σ value · decoder[latent] + b_dec, as an embedding bag per row.
4. g = ∂loss/∂x̂. The gradient of a code is g[row] · decoder[latent], again per bag.
5. Sort the codes by latent: one embedding bag per latent over rows of g and of the centred batch
   gives both weight gradients, without atomics and in a fixed order.
6. ∂loss/∂b_dec = Σ g - encoderᵀ ∂loss/∂b_enc: a matrix-vector product where autograd needs a
   sixth matrix product.

Exact: selection equals a full sort (ties go to the earlier row, then the earlier latent). Only
the order of float additions differs from the dense reference.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from interp.sae.kernels.interface import Rule, StepResult, Weights

CHUNK = 512
"""Rows encoded at once: few enough for a small buffer, enough for an efficient matrix product."""
MARGIN = 0.9
"""The next batch's candidates are those above this share of the last batch's threshold."""


@dataclass(frozen=True)
class Codes:
    """Active latents of a batch: row i owns entries ``starts[i]`` up to ``starts[i + 1]``."""

    values: Float[Tensor, " entries"]
    latents: Int[Tensor, " entries"]
    rows: Int[Tensor, " entries"]
    starts: Int[Tensor, " n"]

    @classmethod
    def of_rows(cls, values: Tensor, latents: Tensor, rows: Tensor, n: int) -> "Codes":
        """Codes whose entries are already ordered by row."""
        starts = torch.searchsorted(rows, torch.arange(n, device=rows.device))
        return cls(values, latents, rows, starts)


class SparseBackend:
    """Plain torch, on a CPU or a GPU; memory beyond the weights grows with batch · (k + d_in)."""

    def __init__(self) -> None:
        self._buffer = torch.empty(0)
        self._guess: float | None = None  # speeds the batch rule up, never changes its result

    def step(
        self,
        weights: Weights,
        x: Float[Tensor, "n d_in"],
        rule: Rule,
        variance: float,
        dead: Bool[Tensor, " latents"] | None = None,
    ) -> StepResult:
        """See `Backend.step`."""
        n = len(x)
        if rule.aux_k == 0 or rule.aux_coefficient == 0 or dead is None:
            dead_latents = torch.empty(0, dtype=torch.int64, device=x.device)
        else:
            dead_latents = dead.nonzero().squeeze(1)
        centred = x - weights.b_dec
        main, aux = self._encode(weights, centred, rule, dead_latents)

        values = main.values.relu()
        decoded, inner = decode(values, main, weights.decoder)
        error = (x - weights.b_dec).sub_(decoded)
        unexplained = error.square().sum() / (n * variance)
        g = error * (-2.0 / (n * variance))
        d_pre = inner(g) * (main.values > 0)
        d_decoder, d_encoder, d_b_enc = weight_gradients(
            main, values, d_pre, g, centred, len(weights.b_enc)
        )
        loss, aux_loss = unexplained, x.new_zeros(())
        spread = (error - error.mean(dim=0)).square().sum() if aux else None
        if aux and spread is not None and spread > 0:
            local = weights.decoder[dead_latents]
            decoded, inner = decode(aux.values, aux, local)
            aux_error = error - decoded
            aux_loss = aux_error.square().sum() / spread
            loss = unexplained + rule.aux_coefficient * aux_loss
            g_aux = aux_error * (-2.0 * rule.aux_coefficient / spread)
            parts = weight_gradients(
                aux, aux.values, inner(g_aux), g_aux, centred, len(dead_latents)
            )
            for whole, part in zip((d_decoder, d_encoder, d_b_enc), parts, strict=True):
                whole[dead_latents] += part  # dead_latents are distinct: no atomics
        gradients = Weights(
            encoder=d_encoder,
            b_enc=d_b_enc,
            decoder=d_decoder,
            b_dec=g.sum(dim=0) - d_b_enc @ weights.encoder,
        )
        active = values > 0
        fired = torch.zeros_like(weights.b_enc, dtype=torch.bool)
        fired[main.latents[active]] = True
        smallest = torch.where(active, values, torch.inf).min() if len(values) else x.new_zeros(())
        return StepResult(
            loss=loss,
            unexplained=unexplained,
            aux=aux_loss,
            gradients=gradients,
            fired=fired,
            l0=active.sum().to(x.dtype) / n,
            smallest=torch.where(torch.isinf(smallest), 0.0, smallest),
        )

    # -- step 2 ---------------------------------------------------------------------------------

    def _encode(
        self, weights: Weights, centred: Tensor, rule: Rule, dead_latents: Tensor
    ) -> tuple[Codes, Codes | None]:
        if rule.per == "row":
            return self._encode_rows(weights, centred, rule, dead_latents)
        wanted = rule.k * len(centred)
        guess = (
            self._guess if self._guess is not None else self._first_guess(weights, centred, rule)
        )
        while True:
            main, aux, threshold = self._encode_above(
                weights, centred, rule, dead_latents, guess, wanted
            )
            if threshold is not None or guess == 0:
                self._guess = MARGIN * threshold if threshold is not None else None
                return main, aux
            # too few candidates: look lower, and at once at all if the last batch overflowed
            guess = guess / 2 if 1e-3 < guess < 1e30 else 0.0

    def _pre(self, weights: Weights, centred: Tensor) -> Tensor:
        """Pre-activations of a chunk, in the reused buffer."""
        shape = (min(CHUNK, len(centred)), len(weights.b_enc))
        buffer = self._buffer
        fits = buffer.dim() == 2 and buffer.shape[0] >= shape[0] and buffer.shape[1] == shape[1]
        if not (fits and buffer.dtype == centred.dtype and buffer.device == centred.device):
            self._buffer = centred.new_empty(shape)
        out = self._buffer[: len(centred)]
        return torch.addmm(weights.b_enc, centred, weights.encoder.T, out=out)

    def _encode_rows(
        self, weights: Weights, centred: Tensor, rule: Rule, dead_latents: Tensor
    ) -> tuple[Codes, Codes | None]:
        n = len(centred)
        values = centred.new_empty((n, rule.k))
        latents = torch.empty((n, rule.k), dtype=torch.int64, device=centred.device)
        aux = _AuxCollector(rule.aux_k, dead_latents)
        for start in range(0, n, CHUNK):
            part = slice(start, min(start + CHUNK, n))
            pre = self._pre(weights, centred[part])
            torch.topk(pre, rule.k, sorted=False, out=(values[part], latents[part]))
            aux.add(pre, start)
        rows = torch.arange(n, device=centred.device).repeat_interleave(rule.k)
        starts = torch.arange(0, n * rule.k, rule.k, device=centred.device)
        return Codes(values.view(-1), latents.view(-1), rows, starts), aux.codes(n)

    def _first_guess(self, weights: Weights, centred: Tensor, rule: Rule) -> float:
        pre = self._pre(weights, centred[:CHUNK]).view(-1)
        top = pre.topk(rule.k * min(CHUNK, len(centred)), sorted=False).values
        return max(MARGIN * float(top.min()), 0.0)

    def _encode_above(
        self,
        weights: Weights,
        centred: Tensor,
        rule: Rule,
        dead_latents: Tensor,
        guess: float,
        wanted: int,
    ) -> tuple[Codes, Codes | None, float | None]:
        """The ``wanted`` largest positive values; threshold None if fewer lie above ``guess``."""
        n, width = len(centred), len(weights.b_enc)
        found_values: list[Tensor] = []
        found: list[Tensor] = []
        aux = _AuxCollector(rule.aux_k, dead_latents)
        for start in range(0, n, CHUNK):
            pre = self._pre(weights, centred[start : start + CHUNK])
            above = (pre.view(-1) > guess).nonzero().squeeze(1)
            found_values.append(pre.view(-1)[above])
            found.append(above + start * width)
            aux.add(pre, start)
        values, flat = torch.cat(found_values), torch.cat(found)
        threshold = None
        if len(values) >= wanted:
            smallest = values.topk(wanted, sorted=False).values.min()
            ties = values == smallest
            larger = values > smallest
            keep = larger | (ties & (ties.cumsum(0) <= wanted - larger.sum()))
            values, flat = values[keep], flat[keep]
            threshold = float(smallest)
        rows = flat.div(width, rounding_mode="floor")
        return Codes.of_rows(values, flat - rows * width, rows, n), aux.codes(n), threshold


class _AuxCollector:
    """Gathers, chunk by chunk, the positive values of the aux_k best dead latents of each row."""

    def __init__(self, aux_k: int, dead_latents: Tensor) -> None:
        self._dead = dead_latents
        self._k = min(aux_k, len(dead_latents))
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, pre: Tensor, start: int) -> None:
        if self._k == 0:
            return
        values, positions = pre.index_select(1, self._dead).topk(self._k, sorted=False)
        rows, slots = (values > 0).nonzero(as_tuple=True)
        self._parts.append((values[rows, slots], positions[rows, slots], rows + start))

    def codes(self, n: int) -> Codes | None:
        """Codes whose latents count within the dead ones."""
        if self._k == 0:
            return None
        values, positions, rows = (torch.cat(parts) for parts in zip(*self._parts, strict=True))
        return Codes.of_rows(values, positions, rows, n)


# -- steps 3 to 5 -------------------------------------------------------------------------------


class _Inner:
    """The backward of a bag by its sample weights."""

    def __init__(self, output: Tensor, values: Tensor) -> None:
        self._output, self._values = output, values

    def __call__(self, g: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(self._output, self._values, g)
        return gradient


def decode(
    values: Tensor, codes: Codes, decoder: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """What values write, a row each; and g ↦ g[row] · decoder[latent] for every code."""
    leaf = values.detach().requires_grad_()
    with torch.enable_grad():
        output = _bag(codes.latents, decoder.detach(), codes.starts, leaf)
    return output.detach(), _Inner(output, leaf)


def _bag(indices: Tensor, table: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    return embedding_bag(indices, table, starts, mode="sum", per_sample_weights=weights)


def weight_gradients(
    codes: Codes, values: Tensor, d_pre: Tensor, g: Tensor, centred: Tensor, width: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of decoder, encoder and its bias by codes of ``width`` latents (step 5)."""
    latents, order = codes.latents.sort(stable=True)
    starts = torch.searchsorted(latents, torch.arange(width, device=latents.device))
    rows, d_pre = codes.rows[order], d_pre[order]
    d_decoder = _bag(rows, g, starts, values[order])
    d_encoder = _bag(rows, centred, starts, d_pre)
    d_b_enc = _bag(rows, torch.ones_like(centred[:, :1]), starts, d_pre).squeeze(1)
    return d_decoder, d_encoder, d_b_enc
