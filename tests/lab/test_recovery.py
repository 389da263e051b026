"""Training on planted rows: seeded, on rows that judging never sees."""

import dataclasses

import numpy as np
import pytest
import torch

from interp.errors import DataError
from interp.lab.planted import Planted, PlantedBatches, PlantedConfig
from interp.lab.recovery import digest, fresh, train_on
from interp.sae import TopK, TrainConfig

WORLD = Planted(PlantedConfig(features=12, d_in=8, first_rate=0.1, last_rate=0.1))
SHORT = {"tokens": 64 * 20, "batch": 64}


def weights(**settings) -> torch.Tensor:
    config = TrainConfig(**SHORT, **settings)
    return train_on(WORLD, TopK(k=2, latents=12), config).W_dec


def test_a_seed_means_the_same_weights():
    first = weights(seed=1)
    assert torch.equal(first, weights(seed=1))
    assert not torch.equal(first, weights(seed=2))
    assert torch.equal(first, weights(seed=1, data_seed=1))
    assert not torch.equal(first, weights(seed=1, data_seed=3))


def test_fresh_rows_are_others_than_those_of_training():
    batches = fresh(WORLD, 300, seed=0, batch=128)
    assert [len(rows) for rows, _ in batches] == [128, 128, 44]
    for number, (rows, codes) in enumerate(batches):
        np.testing.assert_allclose(rows, codes @ WORLD.directions.numpy(), atol=1e-5)
        stream = PlantedBatches(WORLD, batch=len(rows), seed=0)
        stream.load_state_dict({"done": number})
        assert not np.array_equal(next(stream), rows)
    with pytest.raises(DataError, match="at least one row"):
        fresh(WORLD, 0, seed=0)


def test_a_world_is_named_by_its_settings():
    assert digest(WORLD) == digest(Planted(WORLD.config))
    assert digest(WORLD) != digest(Planted(PlantedConfig(features=12, d_in=8)))


def test_a_training_that_diverges_says_so():
    huge = Planted(dataclasses.replace(WORLD.config, first_magnitude=1e30, last_magnitude=1e30))
    with pytest.raises(DataError, match="train again with a lower lr"):
        train_on(huge, TopK(k=2, latents=12), TrainConfig(**SHORT, scale="none", lr=0.1))
