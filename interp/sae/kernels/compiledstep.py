"""The step by compiled loops: what `sparse.py` computes, with every list walked once.

1. centred = x - b_dec, into a buffer kept from step to step, as all that is large.
2. For each chunk of rows: products with the encoder into one buffer, the selected entries out of
   it (`selecting.py`, `searching.py`), with AuxK's among the dead latents.
3. Per row: error, its square, and error · decoder row of every entry (`summing.py`).
4. Entries sorted by latent: both weight gradients per latent, without atomics.
5. ∂loss/∂b_dec = Σ ∂loss/∂x̂ - encoderᵀ ∂loss/∂b_enc.

With ``search="bfloat16"`` the products of step 2 are taken between rounded rows, and every entry
that could be among the chosen is computed again in full precision (`searching.py`): exact, not
nearly so. ``search="bfloat16-near"`` computes only those that could likely be, so that at most one
row in 10,000 has another selection, as far as rounding errors have fair signs. Both are faster only
where the processor multiplies bfloat16. The batch rule takes its products in full either way.

With ``prefixes`` m₁ < m₂ < ... the first term of the loss is the mean over them of what the latents
up to each leave unexplained (Matryoshka). Step 3 walks a row's entries group by group, so that all
prefixes come out of one reconstruction, and then sums the errors from the last prefix back: an
entry's derivative takes those of all the prefixes it is in. They take the memory of one more x
each. AuxK explains what the longest leaves.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from interp.errors import ConfigError
from interp.sae.kernels.clock import timed
from interp.sae.kernels.compiled import balanced, even, share
from interp.sae.kernels.dense import kth_largest
from interp.sae.kernels.interface import Rule, StepResult, Weights
from interp.sae.kernels.scratch import CHUNK, Scratch
from interp.sae.kernels.searching import Rounded, bound, likely, rounding, search
from interp.sae.kernels.selecting import above, cut_to, select
from interp.sae.kernels.summing import by_latent, column_sums, gather, reconstruct, scatter

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


class CompiledBackend:
    """Numba on a CPU. The next step overwrites the gradients of the last."""

    def __init__(self, search: Literal["exact", "bfloat16", "bfloat16-near"] = "exact") -> None:
        """Empty buffers.

        Args:
            search: how candidates are looked for where k are taken per row; the selection is exact,
                except with "bfloat16-near".
        """
        self._search = search
        self.prefixes: tuple[int, ...] = ()
        """How many latents each prefix has, ascending, the last all; none where only all count."""
        self._kept = Scratch()
        self._buffer = self._kept.room
        self._guess: float | None = None  # speeds the batch rule up, never changes its result

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
            ConfigError: the tensors are not on a CPU, or neither single nor double precision.
        """
        if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
            raise ConfigError(
                f"compiled steps need float32 or float64 on a CPU, got {x.dtype} on {x.device}; "
                "use the sparse backend"
            )
        n = len(x)
        centred = torch.sub(x, weights.b_dec, out=self._buffer("centred", *x.shape, like=x))
        helped = EVERY
        if rule.aux_k and rule.aux_coefficient and dead is not None:
            helped = dead.nonzero().squeeze(1).int().numpy()
        main, aux = self._encode(weights, centred, rule, helped)

        gradients = Weights(
            encoder=self._buffer("d_encoder", *weights.encoder.shape, like=x),
            b_enc=self._buffer("d_b_enc", *weights.b_enc.shape, like=x),
            decoder=self._buffer("d_decoder", *weights.decoder.shape, like=x),
            b_dec=self._buffer("d_b_dec", *weights.b_dec.shape, like=x),
        )
        levels = max(1, len(self.prefixes))
        errors = self._buffer("errors", levels, *x.shape, like=x)
        each = self._explain(main, centred, weights, errors) / (n * variance)
        unexplained, loss, aux_loss = float(each[-1]), float(each.mean()), 0.0
        scale = -2 / (levels * n * variance)
        counts, smallest = self._gather(main, scale, errors, centred, gradients, fresh=True)
        column_sums(errors[0].numpy(), gradients.b_dec.numpy())
        if aux is not None:
            error, sums = errors[-1], gradients.b_dec
            if levels > 1:
                sums = self._buffer("sums", *sums.shape, like=x)
                column_sums(error.numpy(), sums.numpy())
            spread = scatter(error.numpy(), (sums / n).numpy())
            if spread > 0:
                left = self._buffer("left", 1, *x.shape, like=x)
                aux_loss = float(self._explain(aux, error, weights, left)[0]) / spread
                loss += rule.aux_coefficient * aux_loss
                pull = -2 * rule.aux_coefficient / spread
                self._gather(aux, pull, left, centred, gradients, fresh=False)
        gradients.b_dec.mul_(scale).sub_(gradients.b_enc @ weights.encoder)
        return StepResult(
            loss=x.new_tensor(loss),
            unexplained=x.new_tensor(unexplained),
            aux=x.new_tensor(aux_loss),
            gradients=gradients,
            fired=torch.from_numpy(counts > 0),
            l0=x.new_tensor(int(counts.sum()) / n),
            smallest=x.new_tensor(smallest),
        )

    def _lists(self, name: str, n: int, k: int, like: Tensor) -> Lists:
        """Lists with room for k entries a row."""
        return Lists(
            k,
            np.arange(0, n * k, k) if k else np.zeros(n, np.int64),
            np.zeros(n, np.int64),
            self._buffer(f"{name} values", n * k, like=like).numpy(),
            self._buffer(f"{name} latents", n * k, like=like, dtype=torch.int32).numpy(),
        )

    # -- step 2 ---------------------------------------------------------------------------------

    def _encode(
        self, weights: Weights, centred: Tensor, rule: Rule, helped: Array
    ) -> tuple[Lists, Lists | None]:
        n, aux = len(centred), None
        if len(helped):
            aux = self._lists("aux", n, min(rule.aux_k, len(helped)), centred)
        if rule.per == "batch":
            return self._encode_batch(weights, centred, rule.k * n, helped, aux), aux
        main = self._lists("main", n, rule.k, centred)
        source, encoder, loop, more = centred, weights.encoder, select, ()
        if self._search != "exact" and centred.dtype == torch.float32:
            rows = self._rounded("centred", centred)
            latents = self._rounded("encoder", weights.encoder)
            slack = (bound if self._search == "bfloat16" else likely)(rows, latents)
            source, encoder, loop = rows.short, latents.short, search
            full = self._buffer("full", n, like=centred, dtype=torch.int32).numpy()
            more = (centred.numpy(), weights.encoder.numpy(), slack, full)
        for start, pre in self._kept.products(source, encoder, CHUNK):
            bits = pre.view(torch.int16) if loop is search else pre
            given = (start, bits.numpy(), weights.b_enc.numpy())
            for lists, columns in ((main, EVERY), (aux, helped)):
                if lists is not None:
                    into = (columns, lists.k, lists.ends, lists.values, lists.latents)
                    share(loop, even(len(pre)), *given, *into, *more)
        return main, aux

    def _rounded(self, name: str, table: Tensor) -> Rounded:
        """Rows in bfloat16, and their norms."""
        short = self._buffer(f"{name} short", *table.shape, like=table, dtype=torch.bfloat16)
        bits = short.copy_(table).view(torch.int16).numpy()
        sizes, lost = np.empty((len(table), 2)), np.empty((len(table), 2))
        share(rounding, even(len(table)), table.numpy(), bits, sizes, lost)
        return Rounded(short, sizes, lost)

    def _encode_batch(
        self, weights: Weights, centred: Tensor, wanted: int, helped: Array, aux: Lists | None
    ) -> Lists:
        n, bias = len(centred), weights.b_enc.numpy()
        while True:
            main, cut = self._lists("batch", n, 0, centred), self._guess
            filled = 0
            for start, pre in self._kept.products(centred, weights.encoder, CHUNK):
                rows = even(len(pre))
                part = slice(start, start + len(pre))
                if cut is None:
                    cut = _first_guess(pre, weights.b_enc, wanted // n)
                where = (start, pre.numpy(), bias, cut, main.begins, main.ends)
                share(above, rows, *where, main.values[:0], main.latents)  # counts
                ends = filled + np.cumsum(main.ends[part])
                main.begins[part] = ends - main.ends[part]
                self._grow(main, filled, int(ends[-1]), centred)
                share(above, rows, *where, main.values, main.latents)
                filled = int(ends[-1])
                if filled > SPARE * wanted:
                    cut = float(cut_to(wanted, part.stop, *main.arrays()))
                    filled = wanted
                if aux is not None:
                    into = (helped, aux.k, aux.ends, aux.values, aux.latents)
                    share(select, rows, start, pre.numpy(), bias, *into)
            if filled >= wanted:
                self._guess = MARGIN * float(cut_to(wanted, n, *main.arrays()))
                return main
            self._guess = None
            if cut == 0:
                return main
            assert cut is not None
            # too few candidates: look lower, and at once at all if the last batch overflowed
            self._guess = cut / 2 if 1e-3 < cut < 1e30 else 0.0

    def _grow(self, lists: Lists, filled: int, room: int, like: Tensor) -> None:
        """Make room for so many entries, keeping those there are."""
        lists.values = self._kept.grow("grown values", filled, room, like.dtype).numpy()
        lists.latents = self._kept.grow("grown latents", filled, room, torch.int32).numpy()

    # -- steps 3 and 4 --------------------------------------------------------------------------

    def _groups(self, levels: int, latents: int) -> Array:
        """Between which prefixes each latent lies, where there are several."""
        if levels == 1:
            return np.zeros(latents, np.int32)
        return np.searchsorted(self.prefixes, np.arange(latents), "right").astype(np.int32)

    def _explain(self, lists: Lists, target: Tensor, weights: Weights, errors: Tensor) -> Array:
        """Σ error² of reconstructing ``target`` by each prefix; errors and inner into buffers."""
        squares = self._buffer("squares", *errors.shape[:2], like=target).numpy()
        inner = self._buffer("inner", len(lists.values), like=target).numpy()
        groups = self._groups(len(errors), len(weights.decoder))
        given = (target.numpy(), weights.decoder.numpy(), groups, *lists.arrays())
        share(reconstruct, even(len(target)), *given, errors.numpy(), inner, squares)
        return squares.sum(axis=1, dtype=np.float64)

    def _gather(
        self,
        lists: Lists,
        scale: float,
        errors: Tensor,
        centred: Tensor,
        gradients: Weights,
        *,
        fresh: bool,
    ) -> tuple[Array, float]:
        """Add the lists' gradients; each latent's number of entries, and the smallest value."""
        room, like = len(lists.values), centred
        offsets = self._buffer("offsets", len(gradients.b_enc) + 1, like=like, dtype=torch.int64)
        rows = self._buffer("rows", room, like=like, dtype=torch.int32).numpy()
        values = self._buffer("by latent", room, like=like).numpy()
        inner = self._buffer("inner by latent", room, like=like).numpy()
        places, unsorted = offsets.numpy(), self._kept["inner"].numpy()
        with timed("sort"):
            by_latent(*lists.arrays(), unsorted, places, rows, values, inner)
        into = [tensor.numpy() for _, tensor in gradients.items()][:3]
        groups = self._groups(len(errors), len(gradients.b_enc))
        entries = (places, rows, values, inner, scale, errors.numpy(), groups, centred.numpy())
        share(gather, balanced(places), *entries, fresh, *into)
        found = int(places[-1])
        return np.diff(places), float(values[:found].min()) if found else 0.0


def _first_guess(pre: Tensor, bias: Tensor, k: int) -> float:
    """A little below the threshold of the first chunk."""
    return max(MARGIN * kth_largest(pre + bias, k * len(pre)), 0.0)
