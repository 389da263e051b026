"""Our contestant: the trainer's own step, by one backend."""

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from typing import Any

import numpy as np
import torch

from interp.config import from_dict
from interp.products import faster_products
from interp.sae.architecture import architectures
from interp.sae.bench import loop
from interp.sae.config import TrainConfig
from interp.sae.kernels import Weights, backends
from interp.sae.kernels.dense import selected
from interp.sae.penalty import PenaltyLearner
from interp.sae.scaling import FITTED_ROWS
from interp.sae.sparse import SparseLearner
from interp.sae.survey import SAMPLE_ROWS
from interp.sae.trainer import Trainer

HORIZON = 100_000
"""Steps of the run that schedules count in, of which a contest makes the first few hundred."""


PENALTIES = {"l1_coefficient": 0.2, "l0_coefficient": 3e-3}
"""At strength 1; those that other trainers are given."""


class Handed:
    """A stream that hands out the batch it was handed."""

    def __init__(self) -> None:
        self.x = torch.empty(0)

    def __next__(self) -> Any:
        return self.x.numpy()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class Ours:
    """One of our architectures by one backend."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Of the settings that every contestant is given; ``by`` names the backend."""
        kind, d_in, batch = architectures()[settings["kind"]], settings["d_in"], settings["batch"]
        own = {name: settings[name] for name in ("latents", "k")}
        own["sparsity_warmup"] = settings["sparsity_warmup"] / HORIZON
        own |= {name: settings["strength"] * weight for name, weight in PENALTIES.items()}
        own |= settings["own"].get(settings["kind"], {})
        known = {field.name for field in fields(kind)}
        architecture = from_dict(kind, {k: v for k, v in own.items() if k in known})
        config = TrainConfig(
            tokens=HORIZON * batch,
            batch=batch,
            lr=settings["lr"],
            warmup=0.0,
            decay=0.0,
            dead_after=settings["dead_after"],
            clip=settings["clip"],
            data_init=settings["data_init"],
            seed=settings.get("seed", 1),
            search="bf16" if settings["by"] == "compiled-bfloat16" else "full",
        )
        learner = architecture.learner(d_in, torch.device("cpu"))
        learner.lists = settings["by"] != "dense"
        if isinstance(learner, SparseLearner) and settings["kind"] != "matryoshka":
            learner.backend = backends()[settings["by"].removesuffix("-bfloat16")]()
        self._batches, self._kind, self._k = Handed(), settings["kind"], settings["k"]
        self._rows = settings["train"]
        self.trainer = Trainer(
            learner, self._batches, config, scale=1.0, variance=settings["variance"]
        )

    def step(self, x: torch.Tensor) -> None:
        """See `loop.Contestant`."""
        if self.trainer.done == 0:
            self._begin(x)
        self._batches.x = x
        self.trainer.step()

    def _begin(self, x: torch.Tensor) -> None:
        """The first weights; as many rows to begin with as a survey's sample has."""
        config = self.trainer.config
        sample = x[:FITTED_ROWS]
        if config.data_init:
            rows = np.load(self._rows, mmap_mode="r")
            sample = torch.from_numpy(np.array(rows[:SAMPLE_ROWS]))
        self.trainer.learner.begin(torch.zeros(x.shape[1]), sample, config)

    @faster_products()
    def explain(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `loop.Contestant`; as training encodes, over all rows as one batch."""
        learner = self.trainer.learner
        weights: Weights = learner.weights
        if isinstance(learner, PenaltyLearner):
            z = learner.terms(weights, x, 1.0, None).z
        else:
            pre = torch.addmm(weights.b_enc, x - weights.b_dec, weights.encoder.T)
            z = selected(pre, self._k, "row" if self._kind == "topk" else "batch")
        return torch.addmm(weights.b_dec, z, weights.decoder), z


if __name__ == "__main__":
    # numba loads its compiler with the first loop: before memory is counted, as peers load theirs
    summing = import_module("interp.sae.kernels.summing")
    summing.column_sums(np.zeros((1, 1), np.float32), np.zeros(1, np.float32))
    loop.main(Ours)
