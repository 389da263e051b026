"""BatchTopK: a batch of n tokens keeps its n·k largest pre-activations, wherever they fall.

Bussmann, Leask, Nanda 2024, "BatchTopK sparse autoencoders", 2412.06410:

1. Training: z = relu(BatchTopK(pre)), k on average; a hard token may use more, an easy one less.
2. Inference has no batch, so it uses one threshold: θ = E over batches of the smallest active
   value, z = pre · [pre > θ]. The estimate is an exponential mean over training batches with
   decay 0.99, divided by 1 - 0.99^t so that its zero start carries no weight; it follows the
   weights closely because the learning rate falls to zero at the end.
3. Loss, AuxK, initialisation and constraint as TopK.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.sae.base import Dictionary, Origin, ThresholdDictionary
from interp.sae.kernels import Backend, StepResult
from interp.sae.sparse import SparseArchitecture, SparseLearner
from interp.sae.transcoder import TranscodingArchitecture

DECAY = 0.99


@dataclass(frozen=True, kw_only=True)
class BatchTopK(TranscodingArchitecture):
    """k latents per token on average; saved as a threshold encoder."""

    kind: ClassVar[str] = "batchtopk"

    def learner(
        self, d_in: int, device: torch.device, backend: Backend | None = None
    ) -> "BatchTopKLearner":
        """See `Architecture.learner`."""
        return BatchTopKLearner(self, "batch", d_in, device, backend)

    def dictionary(self, d_in: int, origin: Origin) -> "BatchTopKDictionary":
        """See `Architecture.dictionary`."""
        return BatchTopKDictionary(self, d_in, origin)


class BatchTopKDictionary(ThresholdDictionary):
    """A threshold encoder; every latent has the same threshold."""

    kind = "batchtopk"


class BatchTopKLearner(SparseLearner):
    """Also follows the smallest active value from batch to batch."""

    def __init__(
        self,
        config: SparseArchitecture,
        per: Literal["row", "batch"],
        d_in: int,
        device: torch.device,
        backend: Backend | None = None,
    ) -> None:
        """See `SparseLearner`."""
        super().__init__(config, per, d_in, device, backend)
        self._mean = torch.zeros((), dtype=torch.float64, device=device)
        self._weight = torch.zeros((), dtype=torch.float64, device=device)

    def step(
        self, x: Float[Tensor, "n d_in"], variance: float, dead: Bool[Tensor, " latents"] | None
    ) -> StepResult:
        """See `Learner.step`."""
        result = super().step(x, variance, dead)
        self._mean.mul_(DECAY).add_(result.smallest.double(), alpha=1 - DECAY)
        self._weight.mul_(DECAY).add_(1 - DECAY)
        return result

    def state(self) -> dict[str, Tensor]:
        """See `Learner.state`."""
        return {"threshold_mean": self._mean, "threshold_weight": self._weight}

    def threshold(self) -> float:
        """The current estimate, in scaled coordinates; 0 before the first step."""
        return float(self.mean(self._mean))

    def mean(self, followed: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """An exponential mean that has followed every step, its zero start undone."""
        return followed / self._weight if self._weight else torch.zeros_like(followed)

    def dictionary(self, empty: Dictionary, scale: float) -> Dictionary:
        """See `Learner.dictionary`."""
        assert isinstance(empty, ThresholdDictionary)
        empty.threshold.fill_(self.threshold() / scale)
        return super().dictionary(empty, scale)
