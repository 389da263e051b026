"""What the tests of dictionaries share."""

import dataclasses
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from interp.config import from_dict
from interp.sae import Architecture, Dictionary, Origin, TrainConfig, architectures
from interp.sae.trainer import Trainer
from interp.store import ActivationStore
from tests.sae.planted import Planted
from tests.stores import make_store

ORIGIN = Origin(model="planted", site="resid_post.0", store="planted", store_digest="0" * 64)
CPU = torch.device("cpu")


def small(kind: str, **settings: Any) -> Architecture:
    """An architecture of a kind with whichever of the settings it has."""
    cls = architectures()[kind]
    known = {field.name for field in dataclasses.fields(cls)}
    return from_dict(cls, {key: value for key, value in settings.items() if key in known})


def trainer_on(source: Planted, architecture: Architecture, config: TrainConfig) -> Trainer:
    """A trainer at step 0 on a planted stream, scaled as `train` would scale it."""
    d_in = source.features.shape[1]
    rows = source.draw(4096, 0).astype(np.float64)
    centred = rows - rows.mean(axis=0)
    scale = float(d_in**0.5 / np.linalg.norm(centred, axis=1).mean())
    learner = architecture.learner(d_in, CPU)
    centre = torch.from_numpy(rows.mean(axis=0) * scale).float()
    sample = torch.from_numpy(rows[:512] * scale).float()
    learner.begin(centre, sample, config)
    variance = float((centred**2).sum(axis=1).mean()) * scale**2
    return Trainer(learner, source, config, scale=scale, variance=variance)


def finish(trainer: Trainer, architecture: Architecture) -> Dictionary:
    """Run to the end and fold."""
    while not trainer.finished:
        trainer.step()
    d_in = trainer.learner.weights.decoder.shape[1]
    empty = architecture.dictionary(d_in, ORIGIN)
    return trainer.learner.dictionary(empty, trainer.scale).eval().requires_grad_(False)


def planted_store(
    path: Path,
    *,
    train_rows: int | None = None,
    heldout_rows: int | None = None,
    sinks: int = 0,
    poison: int | None = None,
    constant: bool = False,
    bias: float = 0.0,
) -> ActivationStore:
    """A real store of 2,400 planted rows 16 wide at resid_post.0, two of six documents held out.

    Args:
        path: the store's folder.
        train_rows: if given, all further training rows are marked as sinks.
        heldout_rows: if given, all further held-out rows are marked as sinks.
        sinks: so many more rows are sinks, a thousand times too large.
        poison: a row that is made NaN behind the writer's back.
        constant: every row the same.
        bias: added to every number.
    """
    source = Planted(d_in=16, features=32, p=0.08, bias=bias)
    values = source.draw(2400, 1)
    if constant:
        values[:] = 1.5
    sink = np.zeros(len(values), bool)
    heldout = (np.arange(len(values)) // 400) % 3 == 1
    for mask, keep in ((~heldout, train_rows), (heldout, heldout_rows)):
        if keep is not None:
            sink[np.flatnonzero(mask)[keep:]] = True
    if sinks:
        sink[:: len(values) // sinks] = True
        values[sink] *= 1000
    store = make_store(path, activations={"resid_post.0": values}, documents=6, sinks=sink)
    assert (store.heldout == heldout).all()
    if poison is not None:
        with h5py.File(path / store.manifest.shards[0].file, "r+") as file:
            file["activations/resid_post.0"][poison, 3] = np.nan
    return store
