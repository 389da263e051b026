"""The comparison of optimisers: the trainer's Adam, changed in nothing but who steps."""

from argparse import Namespace

import pytest

from interp.files import read_json
from interp.sae import TopK, TrainConfig, train
from tests.benchmarks.optimisers import OTHERS, measured
from tests.sae.shared import planted_store

ARGS = Namespace(site="resid_post.0", latents=32, k=4, tokens=30_000)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return planted_store(tmp_path_factory.mktemp("planted") / "store")


@pytest.mark.parametrize("name", OTHERS)
def test_every_optimiser_trains(store, name):
    fve, dead, ms = measured(store, ARGS, name, rate=1.0, seed=0)
    still, _, _ = measured(store, ARGS, name, rate=1e-9, seed=0)
    assert still + 0.05 < fve <= 1
    assert 0 <= dead < 1
    assert ms > 0


def test_torch_adam_in_its_place_ends_where_the_trainers_own_does(store, tmp_path):
    fve, _, _ = measured(store, ARGS, "Adam", rate=1.0, seed=0)
    lr = TrainConfig().peak_lr(ARGS.latents)
    config = TrainConfig(tokens=ARGS.tokens, lr=lr, dead_after=ARGS.tokens // 3, seed=0)
    train(store, ARGS.site, TopK(latents=ARGS.latents, k=ARGS.k), config, out=tmp_path / "d")
    own = read_json(tmp_path / "d" / "metrics.json")["heldout"]["fve"]
    assert fve == pytest.approx(own, abs=1e-3)
