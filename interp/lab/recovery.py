"""Train a dictionary on a stream of planted rows, as `interp.sae.train` would on a store."""

import hashlib
import json

import numpy as np
import torch

from interp.config import to_dict
from interp.errors import DataError
from interp.evaluate.truth import Rows
from interp.lab.planted import Planted, PlantedBatches
from interp.progress import Progress, silent
from interp.sae import Architecture, Dictionary, Origin, TrainConfig
from interp.sae.scaling import input_scaling, scaled_rows, scaled_spread
from interp.sae.survey import Survey
from interp.sae.trainer import Trainer

SITE = "planted"
_SAMPLE_ROWS = 8192
# Streams of one seed that must not meet: training is `seed` itself.
_SAMPLE, _FRESH = 1_000_000_007, 2_000_000_011


def train_on(
    planted: Planted,
    architecture: Architecture,
    config: TrainConfig,
    *,
    progress: Progress = silent,
) -> Dictionary:
    """A dictionary of a world's rows, each row seen once.

    Args:
        planted: the world.
        architecture: such as ``TopK(k=4, latents=128)``.
        config: the run; its seeds govern the rows and the initial weights.
        progress: told the tokens done.

    Raises:
        ConfigError: a setting cannot work.
        DataError: the loss diverged.
    """
    width = planted.config.d_in
    architecture.check(width)
    sample, _ = planted.draw(_SAMPLE_ROWS, seed=config.order() + _SAMPLE)
    data = Survey(len(sample), sample.mean(axis=0, dtype=np.float64), sample)
    centre = data.centre()
    scaling = input_scaling(config.scale, data, centre)
    origin = Origin(model="planted", site=SITE, store="planted", store_digest=digest(planted))
    learner = architecture.learner(width, torch.device("cpu"))
    start = scaling(centre[None])[0].float()
    learner.begin(start, scaled_rows(data, scaling, config.data_init), config)
    trainer = Trainer(
        learner,
        PlantedBatches(planted, batch=config.batch, seed=config.order()),
        config,
        scale=scaling.scale,
        matrix=scaling.matrix,
        variance=scaled_spread(data, scaling),
        empty=lambda: architecture.dictionary(width, origin),
    )
    while not trainer.finished:
        result = trainer.step()
        if trainer.done % config.log_every == 0 or trainer.finished:
            loss = float(result.loss)
            if not np.isfinite(loss):
                raise DataError(
                    f"the loss became {loss} at step {trainer.done}; train again with a lower lr"
                )
            progress(min(trainer.done * config.batch, config.tokens), config.tokens)
    filled = learner.dictionary(architecture.dictionary(width, origin), trainer.scale)
    return trainer.scaling.fold(filled).eval().requires_grad_(False)


def digest(planted: Planted) -> str:
    """SHA-256 of a world's settings."""
    text = json.dumps(to_dict(planted.config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def fresh(planted: Planted, rows: int, *, seed: int, batch: int = 2048) -> list[Rows]:
    """Rows with their codes that no training with this seed has seen.

    Raises:
        DataError: none are asked for.
    """
    if rows < 1:
        raise DataError("at least one row is needed to judge a dictionary")
    counts = [min(batch, rows - start) for start in range(0, rows, batch)]
    return [planted.draw(n, seed=seed + _FRESH, number=k) for k, n in enumerate(counts)]
