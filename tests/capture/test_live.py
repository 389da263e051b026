"""Training on a model equals training on the store that the same capture writes."""

import json
import shutil

import numpy as np
import pytest

from interp.capture.live import live
from interp.cli import main
from interp.errors import ConfigError, DataError
from interp.files import read_json
from interp.sae import BatchTopK, TopK, TrainConfig, train
from interp.sae.files import CHECKPOINT
from interp.store import ShuffledBatches
from tests.capture.tiny import SETTINGS, SITES, lengthen, tiny_model

CONFIG = TrainConfig(tokens=2560, batch=64, lr=1e-2, log_every=5, evaluate_every=1000)
TYPED = SETTINGS | {"dtype": "float16"}


class Stop(Exception):
    """Stands for a kill."""


@pytest.fixture
def wide(tokenizer):
    """A model one of whose sites does not fit float16."""
    model = tiny_model(tokenizer)
    lengthen(model, " cat", 1e6)
    return model


@pytest.fixture
def stored(captured, wide):
    store = captured(by=wide, **TYPED)
    assert set(store.manifest.dtypes.values()) == {"float16", "bfloat16"}
    assert len(store.manifest.shards) > 5
    assert store.sinks.any()
    return store


def reading(wide, texts, **more):
    return live(wide, SITES, str(texts), **{**TYPED, **more})


@pytest.mark.parametrize("memory", [20_000, 1 << 30], ids=["some", "all"])
def test_a_live_store_reads_like_the_stored_one(stored, wide, texts, memory) -> None:
    there = reading(wide, texts, memory=memory)
    for name in ("tokens", "document_index", "positions", "sinks", "heldout"):
        np.testing.assert_array_equal(getattr(there, name), getattr(stored, name))
    assert there.documents == stored.documents
    assert there.vocabulary.text([5, 6]) == stored.vocabulary.text([5, 6])
    assert (there.sites, there.rows, there.model) == (stored.sites, stored.rows, stored.model)
    assert there.manifest.dtypes == stored.manifest.dtypes
    joint = "+".join(SITES)
    np.testing.assert_array_equal(
        there.read(joint, 0, there.rows), stored.read(joint, 0, stored.rows)
    )
    for site in SITES:
        pairs = [
            ShuffledBatches(each, site, batch=48, seed=3, pool_rows=1024)
            for each in (there, stored)
        ]
        for _ in range(stored.rows // 48):
            np.testing.assert_array_equal(next(pairs[0]), next(pairs[1]))
    with pytest.raises(DataError, match="outside store"):
        there.read(SITES[0], 0, there.rows + 1)


def test_what_fits_is_computed_once(wide, texts, monkeypatch) -> None:
    there = reading(wide, texts)
    monkeypatch.setattr(there._runner, "run", None)
    train(there, SITES[0], TopK(latents=48, k=3), CONFIG, out=there.path.parent / "d")


def test_training_live_gives_the_same_weights_and_log_and_resumes(
    stored, wide, texts, tmp_path
) -> None:
    kind = BatchTopK(latents=48, k=3)
    train(stored, SITES[0], kind, CONFIG, out=tmp_path / "stored")

    def stop(done: int, total: int, note: str = "") -> None:
        if done >= 1300:
            raise Stop

    settings = {"out": tmp_path / "live", "checkpoint_every": 256}
    first = reading(wide, texts, memory=1)
    with pytest.raises(Stop):
        train(first, SITES[0], kind, CONFIG, progress=stop, **settings)
    assert (tmp_path / "live" / CHECKPOINT).exists()
    again = reading(wide, texts, memory=20_000)
    train(again, SITES[0], kind, CONFIG, **settings)
    for name in ("weights.safetensors", "log.jsonl", "metrics.json"):
        pair = [(tmp_path / where / name).read_bytes() for where in ("live", "stored")]
        assert pair[0] == pair[1], name
    origin = read_json(tmp_path / "live" / "config.json")["origin"]
    assert origin["store_digest"] == again.digest != stored.digest


def test_another_request_has_another_digest(wide, texts) -> None:
    assert reading(wide, texts).digest == reading(wide, texts, memory=1).digest
    assert reading(wide, texts).digest != reading(wide, texts, seed=1).digest


def test_the_command_line(saved, texts, workspace, capsys) -> None:
    capture = ["--corpus", f"'{texts}'", "--context", "10", "--shard-rows", "100"]
    capture += ["--heldout", "0.3", "--tokens", "400"]
    flags = ["--latents", "32", "--k", "2", "--tokens", "1280", "--batch", "64", "--json"]
    where = [str(saved), "resid_post.0"]
    live_flag = "--live=" + " ".join(capture)
    assert main(["train", *where, *flags, live_flag]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not list(workspace.store("x").parent.glob("*")), "it stored something"
    kept = workspace.root / "kept"
    shutil.copytree(found["path"], kept)
    shutil.rmtree(found["path"])
    plain = [part.strip("'") for part in capture]
    assert main(["capture", *where, *plain, "--out", "store", "--json"]) == 0
    assert main(["train", "store", "resid_post.0", *flags]) == 0
    path = workspace.root / found["path"]
    for name in ("weights.safetensors", "log.jsonl", "metrics.json"):
        assert (path / name).read_bytes() == (kept / name).read_bytes(), name
    capsys.readouterr()
    assert main(["train", *where, *flags, live_flag + " --out y"]) == ConfigError.exit_code
    assert "--live writes no store; leave out its --out" in capsys.readouterr().err
