"""Planted stores are stores like any other, to the byte."""

import numpy as np
import pytest

from interp.errors import ConfigError, StoreError
from interp.lab.planted import Planted, PlantedConfig
from interp.lab.planted_store import RUN_ROWS, PlantConfig, plant, planted_codes
from interp.sae import TopK, reconstruction, train
from interp.store import StoreWriter, verify

WORLD = Planted(PlantedConfig(features=12, d_in=8, first_rate=0.1, last_rate=0.1))
CONFIG = PlantConfig(rows=5000, heldout_every=3, shard_rows=2048)


def test_a_planted_store_holds_the_rows_of_its_codes(tmp_path):
    store = plant(WORLD, tmp_path / "s", CONFIG)
    assert (store.rows, int(store.heldout.sum())) == (5000, RUN_ROWS + 5000 - 4 * RUN_ROWS)
    assert verify(store.path) == []
    stored = np.concatenate([block for _, block in store.blocks("planted", split="all")])
    for run in (0, 2, 4):
        codes = planted_codes(WORLD, CONFIG, run)
        rows = stored[run * RUN_ROWS : (run + 1) * RUN_ROWS]
        assert len(codes) == len(rows)
        np.testing.assert_allclose(rows, codes @ WORLD.directions.numpy(), atol=2e-3)


def test_a_store_is_returned_continued_or_refused(tmp_path, monkeypatch):
    whole = plant(WORLD, tmp_path / "whole", CONFIG)
    real = StoreWriter.write_shard

    def killed(self, index, **rest):
        if index == 1:
            raise KeyboardInterrupt
        real(self, index, **rest)

    with monkeypatch.context() as patched:
        patched.setattr(StoreWriter, "write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            plant(WORLD, tmp_path / "s", CONFIG)
    assert plant(WORLD, tmp_path / "s", CONFIG).digest == whole.digest
    before = (tmp_path / "s" / "manifest.json").stat().st_mtime_ns
    assert plant(WORLD, tmp_path / "s", CONFIG).digest == whole.digest
    assert (tmp_path / "s" / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(StoreError, match="another store"):
        plant(WORLD, tmp_path / "s", PlantConfig(rows=4000))


def test_a_dictionary_trains_on_it(tmp_path):
    store = plant(WORLD, tmp_path / "s", CONFIG)
    sae = train(store, "planted", TopK(k=2, latents=12), out=tmp_path / "d", tokens=100_000)
    assert reconstruction(sae, store).fve > 0.5


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rows": 100}, "at least 2048 rows"),
        ({"heldout_every": 1}, "heldout_every"),
        ({"shard_rows": 1000}, "multiple of 1024"),
    ],
)
def test_impossible_settings_are_refused(change, text):
    with pytest.raises(ConfigError, match=text):
        PlantConfig(**change)
