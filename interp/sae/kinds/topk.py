"""TopK: each token keeps its k largest pre-activations.

Gao et al. 2024, "Scaling and evaluating sparse autoencoders", 2406.04093:

1. z = relu(TopK((x - b_dec) W_enc + b_enc)),   x̂ = z W_dec + b_dec.
2. loss: fraction of variance unexplained + 1/32 · AuxK, in which the dead latents' own TopK
   explains what the step's reconstruction left (exact formulas: `interp.sae.kernels.interface`).
3. Unit decoder rows, gradients projected; encoder starts as the decoder's transpose; b_dec starts
   at the geometric median of the data.
4. Multi-TopK, off by default: a reconstruction from the 4k largest is asked for as well,
   loss + 1/8 · (fraction of variance unexplained with 4k), so that the dictionary serves any
   number of latents between, not k alone. Both terms reach every weight.

Differences from the paper, on purpose: the encoder has a bias (zero at first), and the loss is
divided by the site's variance rather than each token's own norm.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.sae.base import Dictionary, Origin
from interp.sae.kernels import Backend, StepResult
from interp.sae.penalty import check_coefficient
from interp.sae.sparse import SparseLearner
from interp.sae.transcoder import TranscodingArchitecture

MULTIPLE = 4
"""How many times k latents Multi-TopK's second loss may use."""


@dataclass(frozen=True, kw_only=True)
class TopK(TranscodingArchitecture):
    """Exactly k latents per token (fewer only where fewer pre-activations are positive)."""

    kind: ClassVar[str] = "topk"

    multi_coefficient: float = 0.0
    """Weight of the loss with 4k active latents (Gao et al. 2024 use 1/8); 0 turns it off."""

    def __post_init__(self) -> None:
        """Check the settings that need no site."""
        super().__post_init__()
        check_coefficient("multi_coefficient", self.multi_coefficient)

    def label(self, d_in: int) -> str:
        """See `Architecture.label`."""
        return super().label(d_in) + "-multi" * (self.multi_coefficient > 0)

    def learner(
        self, d_in: int, device: torch.device, backend: Backend | None = None
    ) -> "TopKLearner":
        """See `Architecture.learner`."""
        return TopKLearner(self, "row", d_in, device, backend)

    def dictionary(self, d_in: int, origin: Origin) -> "TopKDictionary":
        """See `Architecture.dictionary`."""
        return TopKDictionary(self, d_in, origin)


class TopKLearner(SparseLearner):
    """Adds the loss with 4k active latents where it is asked for."""

    config: TopK

    def step(
        self, x: Float[Tensor, "n d_in"], variance: float, dead: Bool[Tensor, " latents"] | None
    ) -> StepResult:
        """See `Learner.step`; what is reported beside the loss is that of k latents."""
        weight = self.config.multi_coefficient
        if weight == 0:
            return super().step(x, variance, dead)
        rule = self.rule
        wide = replace(rule, k=min(MULTIPLE * rule.k, len(self.weights.b_enc)), aux_k=0)
        more = self.backend.step(self.weights, x, wide, variance)
        # copied before the second step, whose results may lie in the same memory
        loss = weight * more.unexplained
        gradients = [weight * gradient for _, gradient in more.gradients.items()]
        result = super().step(x, variance, dead)
        for (_, whole), part in zip(result.gradients.items(), gradients, strict=True):
            whole.add_(part)
        return replace(result, loss=result.loss + loss)


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
