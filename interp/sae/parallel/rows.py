"""A trainer whose processes divide each batch, where every row's loss stands alone.

Where the loss is a mean over rows (`Architecture.by_rows`), that of a batch is the mean of its
parts', and so is its gradient. TopK and BatchTopK, whose AuxK and cut are of the batch as such,
have a step of their own (`step.py`).
"""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.sae.kernels import StepResult
from interp.sae.learner import Learner
from interp.sae.parallel.team import Team
from interp.sae.trainer import Trainer


class RowsTrainer(Trainer):
    """Steps by its own part of each batch and the mean of all parts' gradients."""

    def __init__(self, learner: Learner, *args: Any, rows: Team, **settings: Any) -> None:
        """See `Trainer`; ``rows`` are the processes that divide a batch."""
        super().__init__(learner, *args, **settings)
        self._rows = rows

    def losses(
        self, x: Float[Tensor, "n d_in"], dead: Bool[Tensor, " latents"] | None
    ) -> StepResult:
        """See `Trainer.losses`; of the whole batch."""
        return averaged(super().losses(x[self._rows.part(len(x))], dead), self._rows)


def averaged(result: StepResult, rows: Team) -> StepResult:
    """What the results of equal parts of a batch are together."""
    scalars = torch.stack([result.loss, result.unexplained, result.aux, result.l0])
    loss, unexplained, aux, l0 = rows.total(scalars) / rows.world
    active = torch.where(result.fired.any(), result.smallest, torch.inf)
    smallest = rows.gathered(active).min()
    gradients = [rows.total(gradient) / rows.world for _, gradient in result.gradients.items()]
    return replace(
        result,
        loss=loss,
        unexplained=unexplained,
        aux=aux,
        l0=l0,
        gradients=result.gradients.like(gradients),
        fired=rows.total(result.fired.int()) > 0,
        smallest=torch.where(torch.isinf(smallest), 0.0, smallest),
    )
