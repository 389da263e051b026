"""What is written while a dictionary trains: held-out rows in between, and optional trackers."""

import importlib.util
import json
import sys
import types

import numpy as np
import pytest

from interp.cli import main
from interp.errors import ConfigError, UnknownName
from interp.sae import TopK, TrainConfig, reconstruction, train
from tests.sae.shared import planted_store

SITE = "resid_post.0"
CHOSEN = TopK(latents=48, k=3)
CONFIG = TrainConfig(
    tokens=64 * 30, batch=64, lr=1e-2, checkpoint_every=64 * 7, log_every=10, evaluate_every=500
)


class Stop(Exception):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return planted_store(tmp_path_factory.mktemp("store") / "planted")


def test_held_out_rows_are_measured_every_so_many_tokens(store, tmp_path) -> None:
    made = train(store, SITE, CHOSEN, CONFIG, out=tmp_path / "d", warmup=0.0, decay=0.0)
    lines = [json.loads(line) for line in (tmp_path / "d" / "log.jsonl").read_text().splitlines()]
    measured = [line for line in lines if "heldout" in line]
    assert [line["step"] for line in measured] == [8, 16, 24]
    assert [line["step"] for line in lines if "loss" in line] == [10, 20, 30]
    last = measured[-1]["heldout"]
    assert {"fve", "mse", "l0", "dead", "density_histogram", "rows"} <= last.keys()
    assert last["rows"] == len(store.rows_of("heldout"))
    assert last["fve"] > measured[0]["heldout"]["fve"]
    # the line is what a run that ends there is measured as
    short = {"tokens": 64 * 24, "warmup": 0.0, "decay": 0.0, "evaluate_every": None}
    ended = train(store, SITE, CHOSEN, CONFIG, out=tmp_path / "short", dead_after=10**6, **short)
    whole = reconstruction(ended, store).to_dict()
    assert {key: whole[key] for key in last} == last
    plain = train(
        store, SITE, CHOSEN, CONFIG, out=tmp_path / "p", warmup=0.0, decay=0.0, evaluate_every=None
    )
    assert np.array_equal(plain.W_dec.numpy(), made.W_dec.numpy())  # measuring changes nothing


def test_a_broken_run_measures_each_time_once(store, tmp_path) -> None:
    def stop(done: int, total: int, note: str = "") -> None:
        if done >= 64 * 20:
            raise Stop

    train(store, SITE, CHOSEN, CONFIG, out=tmp_path / "whole")
    with pytest.raises(Stop):
        train(store, SITE, CHOSEN, CONFIG, out=tmp_path / "d", progress=stop)
    train(store, SITE, CHOSEN, CONFIG, out=tmp_path / "d")
    assert (tmp_path / "d" / "log.jsonl").read_bytes() == (
        tmp_path / "whole" / "log.jsonl"
    ).read_bytes()


def test_a_tracker_that_is_unknown_or_not_installed_is_one_sentence_before_any_work(
    store, workspace, monkeypatch, capsys
) -> None:
    with pytest.raises(UnknownName, match="did you mean: tensorboard"):
        train(store, SITE, CHOSEN, CONFIG, trackers=["tensorbord"])
    for name in ("tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
        with pytest.raises(ConfigError, match=f"{name} is not installed; `pip install interp-w"):
            train(store, SITE, CHOSEN, CONFIG, trackers=[name])
    assert not workspace.root.exists()
    planted_store(workspace.store("toy"))
    assert main(["train", "toy", SITE, "--k", "3", "--log", "tensorboard,wandb"]) == 2
    assert "tensorboard is not installed" in capsys.readouterr().err


class Recorded(types.ModuleType):
    """In the place of wandb: what its two calls are given."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.begun, self.lines, self.closed = {}, [], 0

    def init(self, **settings):
        self.begun = settings
        return types.SimpleNamespace(log=self.log, finish=self.finish)

    def log(self, values, step):
        self.lines.append((step, values))

    def finish(self):
        self.closed += 1


def test_wandb_is_told_the_numbers_of_the_log_offline(store, tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    recorded = Recorded()
    monkeypatch.setitem(sys.modules, "wandb", recorded)
    train(store, SITE, CHOSEN, CONFIG, out=tmp_path / "d", trackers=["wandb"])
    assert recorded.begun["mode"] == "offline"
    assert recorded.begun["config"]["architecture"]["k"] == 3
    assert recorded.closed == 1
    lines = [json.loads(line) for line in (tmp_path / "d" / "log.jsonl").read_text().splitlines()]
    assert [step for step, _ in recorded.lines] == [line["step"] for line in lines]
    for (_, values), line in zip(recorded.lines, lines, strict=True):
        part, numbers = ("heldout", line["heldout"]) if "heldout" in line else ("train", line)
        assert all(numbers[key.removeprefix(f"{part}/")] == each for key, each in values.items())
        assert f"{part}/l0" in values


@pytest.mark.skipif(not importlib.util.find_spec("tensorboard"), reason="an optional package")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_back_what_was_logged_also_after_a_kill(store, tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def stop(done: int, total: int, note: str = "") -> None:
        if done >= 64 * 20:
            raise Stop

    with pytest.raises(Stop):
        train(
            store, SITE, CHOSEN, CONFIG, out=tmp_path / "d", trackers=["tensorboard"], progress=stop
        )
    train(store, SITE, CHOSEN, CONFIG, out=tmp_path / "d", trackers=["tensorboard"])
    found = EventAccumulator(str(tmp_path / "d" / "tensorboard")).Reload()
    lines = [json.loads(line) for line in (tmp_path / "d" / "log.jsonl").read_text().splitlines()]
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    read = [(event.step, event.value) for event in found.Scalars("train/loss")]
    assert [step for step, _ in read] == [step for step, _ in losses]
    np.testing.assert_allclose([v for _, v in read], [v for _, v in losses], rtol=1e-6)
    assert [event.step for event in found.Scalars("heldout/fve")] == [8, 16, 24]
