"""TopK: each token keeps its k largest pre-activations.

Gao et al. 2024, "Scaling and evaluating sparse autoencoders", 2406.04093, eq. 2-3 and App. A:

1. z = relu(TopK((x - b_dec) W_enc + b_enc)),   x̂ = z W_dec + b_dec.
2. loss: fraction of variance unexplained + 1/32 · AuxK, in which the dead latents' own TopK
   explains what the step's reconstruction left (exact formulas: `interp.sae.kernels.interface`).
3. Unit decoder rows, gradients projected; encoder starts as the decoder's transpose; b_dec starts
   at the geometric median of the data.

Differences from the paper, on purpose: the encoder has a bias (zero at first), and the loss is
divided by the site's variance rather than each token's own norm.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.sae.base import Dictionary, Origin
from interp.sae.kernels import Backend
from interp.sae.sparse import SparseArchitecture, SparseLearner


@dataclass(frozen=True, kw_only=True)
class TopK(SparseArchitecture):
    """Exactly k latents per token (fewer only where fewer pre-activations are positive)."""

    kind: ClassVar[str] = "topk"

    def learner(
        self, d_in: int, device: torch.device, backend: Backend | None = None
    ) -> SparseLearner:
        """See `Architecture.learner`."""
        return SparseLearner(self.width(d_in), d_in, self.rule("row"), device, backend)

    def dictionary(self, d_in: int, origin: Origin) -> "TopKDictionary":
        """See `Architecture.dictionary`."""
        return TopKDictionary(self, d_in, origin)


class TopKDictionary(Dictionary):
    """Keeps the k largest pre-activations of each token, if positive."""

    kind = "topk"
    config: TopK

    def activate(self, pre: Float[Tensor, "n latents"]) -> Float[Tensor, "n latents"]:
        """The k largest values of each row, if positive; the rest zero."""
        values, indices = pre.topk(self.config.k, dim=-1, sorted=False)
        return torch.zeros_like(pre).scatter(-1, indices, values.relu())

    def encode_sparse(
        self, x: Float[Tensor, "n d_in"]
    ) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
        """The k largest values of each row in descending order (0 where not positive), and which.

        Raises:
            DataError: the rows are not ``d_in`` wide.
        """
        values, indices = self.pre_activations(x).topk(self.config.k, dim=-1)
        return values.relu(), indices
