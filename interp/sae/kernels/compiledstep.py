"""The step by compiled loops: what `sparse.py` computes, with every list walked once.

1. centred = x - b_dec, into a buffer kept from step to step, as all that is large.
2. For each chunk of rows: products with the encoder into one buffer, the selected entries out of
   it, with AuxK's among the dead latents (`compiledencode.py`).
3. Per row: error, its square, and error · decoder row of every entry (`summing.py`).
4. Entries sorted by latent: both weight gradients per latent, without atomics.
5. ∂loss/∂b_dec = Σ ∂loss/∂x̂ - encoderᵀ ∂loss/∂b_enc.

With ``prefixes`` m₁ < m₂ < ... the first term of the loss is the mean over them of what the latents
up to each leave unexplained (Matryoshka). Step 3 walks a row's entries group by group, so that all
prefixes come out of one reconstruction, and then sums the errors from the last prefix back: an
entry's derivative takes those of all the prefixes it is in. They take the memory of one more x
each. AuxK explains what the longest leaves.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from interp.errors import ConfigError
from interp.sae.kernels.clock import timed
from interp.sae.kernels.compiled import ROW_WRITTEN, balanced, even, share
from interp.sae.kernels.compiledencode import EVERY, CompiledEncoder, Lists
from interp.sae.kernels.interface import Rule, Search, StepResult, Weights
from interp.sae.kernels.scratch import Scratch
from interp.sae.kernels.summing import by_latent, column_sums, gather, reconstruct, scatter

Array = NDArray[Any]


class CompiledBackend:
    """Numba on a CPU. The next step overwrites the gradients of the last."""

    def __init__(self, search: Search = "full") -> None:
        """Empty buffers; ``search`` says from which products the active latents are taken."""
        self.prefixes: tuple[int, ...] = ()
        """How many latents each prefix has, ascending, the last all; none where only all count."""
        self._kept = Scratch()
        self._buffer = self._kept.room
        self.encode = CompiledEncoder(self._kept, search)

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
        main, aux = self.encode(weights, centred, rule, helped)

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
        share(gather, balanced(places, ROW_WRITTEN), *entries, fresh, *into)
        found = int(places[-1])
        return np.diff(places), float(values[:found].min()) if found else 0.0
