"""Several dictionaries over one reading of the data: each as if it were trained alone."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import interp.sae.trainer
from interp.cli import main
from interp.errors import ConfigError, DataError, UnknownName
from interp.files import read_json, write_json
from interp.sae import BatchTopK, JumpReLU, TopK, TrainConfig, grid, train, train_many
from interp.sae.files import CHECKPOINT, CONFIG
from interp.sae.job import names
from interp.sae.stream import SharedBatches
from interp.store import ActivationStore, ShuffledBatches
from tests.sae.planted import Planted
from tests.sae.shared import planted_store

BASE = TrainConfig(tokens=64 * 40, batch=64, lr=1e-2, checkpoint_every=64 * 7, log_every=3)


def but(**settings) -> TrainConfig:
    return dataclasses.replace(BASE, **settings)


RUNS = [
    (BatchTopK(latents=48, k=3), BASE),
    (TopK(latents=40, k=2), BASE),
    (TopK(latents=40, k=2), but(lr=5e-3)),
    (JumpReLU(latents=32), but(seed=3, data_seed=0)),
    (TopK(latents=40, k=4), but(tokens=64 * 25)),  # ends before the others
    (TopK(latents=48, k=3), but(seed=1)),  # another order of data
    (TopK(latents=48, k=3), but(batch=32, seed=2, data_seed=0)),  # the same order, cut otherwise
]


class Stop(Exception):
    """Stands for a kill."""


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ActivationStore:
    return planted_store(tmp_path_factory.mktemp("store") / "planted")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def folders(workspace, store) -> list[Path]:
    called = names(16, RUNS)
    return [workspace.dictionary(store.model, "resid_post.0", name) for name in called]


@pytest.fixture(scope="module")
def alone(store, tmp_path_factory) -> list[dict[str, bytes]]:
    made = []
    for architecture, config in RUNS:
        out = tmp_path_factory.mktemp("alone") / "d"
        train(store, "resid_post.0", architecture, config, out=out)
        made.append(contents(out))
    return made


def test_each_equals_the_same_run_alone_and_the_data_are_drawn_once(
    store, alone, workspace, monkeypatch
) -> None:
    drawn = [0]
    draw = ShuffledBatches.__next__

    def counted(self):
        drawn[0] += 1
        return draw(self)

    monkeypatch.setattr(ShuffledBatches, "__next__", counted)
    told: list[tuple[int, int, str]] = []
    found = train_many(
        store, "resid_post.0", RUNS, progress=lambda d, t, note="": told.append((d, t, note))
    )
    assert [contents(folder) for folder in folders(workspace, store)] == alone
    assert drawn[0] == 40 + 40 + 80  # of one group of five, of one alone, of one cut otherwise
    assert [each.config for each in found] == [architecture for architecture, _ in RUNS]
    assert told[-1][:2] == (64 * 265, 64 * 265)
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)
    assert "topk-40-k2-s0-lr=0.005: loss " in " ".join(note for _, _, note in told)


@pytest.mark.parametrize("at", [20, 190])
def test_broken_off_anywhere_a_sweep_continues_to_the_same_bytes(
    store, alone, workspace, at: int
) -> None:
    def stop(done: int, total: int, note: str = "") -> None:
        if done >= 64 * at:
            raise Stop

    with pytest.raises(Stop):
        train_many(store, "resid_post.0", RUNS, progress=stop)
    train_many(store, "resid_post.0", RUNS)
    assert [contents(folder) for folder in folders(workspace, store)] == alone


def test_those_behind_catch_up_and_the_finished_are_left_alone(store, alone, workspace) -> None:
    def stop(done: int, total: int, note: str = "") -> None:
        if done >= 64 * 30:
            raise Stop

    places = folders(workspace, store)
    with pytest.raises(Stop):
        train(store, "resid_post.0", *RUNS[0], out=places[0], progress=stop)
    assert (places[0] / CHECKPOINT).exists()
    train(store, "resid_post.0", *RUNS[1], out=places[1])
    before = (places[1] / CONFIG).stat().st_mtime_ns
    totals: set[int] = set()
    train_many(store, "resid_post.0", RUNS, progress=lambda d, t, note="": totals.add(t))
    assert [contents(folder) for folder in places] == alone
    assert (places[1] / CONFIG).stat().st_mtime_ns == before
    assert totals == {64 * 225}  # the finished run is no part of the bar


def test_one_that_diverges_is_named_and_the_others_finish(
    store, alone, workspace, monkeypatch
) -> None:
    step = interp.sae.trainer.Trainer.step

    def poisoned(self):
        result = step(self)
        if self.config.lr == 5e-3 and self.done == 20:
            self.learner.weights.b_dec.fill_(float("nan"))
        return result

    monkeypatch.setattr(interp.sae.trainer.Trainer, "step", poisoned)
    with pytest.raises(DataError, match=r"lr=0.005/checkpoint.safetensors \(step 14\)"):
        train_many(store, "resid_post.0", RUNS)
    places = folders(workspace, store)
    finished = [n for n, place in enumerate(places) if not (place / CHECKPOINT).exists()]
    assert finished == [0, 1, 3, 4, 5, 6]
    assert all(contents(places[n]) == alone[n] for n in finished)


def test_readers_of_a_shared_stream_each_see_all_of_it() -> None:
    """Whatever the order of their draws, and after going back to a saved place."""
    rng = np.random.default_rng(0)
    shared = SharedBatches(Planted(batch=3))
    readers = [shared.reader() for _ in range(3)]
    seen: list[list[np.ndarray]] = [[], [], []]
    for turn in rng.integers(0, 3, 60):
        seen[turn].append(next(readers[turn]))
    saved = readers[0].state_dict()
    after = [next(readers[0]) for _ in range(4)]
    readers[0].load_state_dict(saved)
    np.testing.assert_array_equal([next(readers[0]) for _ in range(4)], after)
    plain = Planted(batch=3)
    expected = [next(plain) for _ in range(60)]
    for each in seen:
        np.testing.assert_array_equal(each, expected[: len(each)])


def test_names_tell_runs_apart_by_what_differs() -> None:
    runs = grid(["topk", "l1"], {"latents": [32], "k": [2, 4], "lr": [0.01, 0.02], "seed": [0, 7]})
    assert names(16, runs)[:3] == [
        "topk-32-k2-s0-lr=0.01",
        "topk-32-k2-s7-lr=0.01",
        "topk-32-k2-s0-lr=0.02",
    ]
    assert len(set(names(16, runs))) == 12
    assert names(16, runs[:1]) == ["topk-32-k2-s0"]
    with pytest.raises(ConfigError, match="topk-32-k2-s0 is asked for 2 times"):
        names(16, [runs[0], runs[0]])


def test_a_grid_is_every_combination_and_refuses_what_nobody_has() -> None:
    runs = grid(["topk", "jumprelu"], {"k": [2, 4], "bandwidth": [0.5, 1.0, 2.0], "seed": [0, 1]})
    assert [(a.kind, getattr(a, "k", None), c.seed) for a, c in runs[:4]] == [
        ("topk", 2, 0),
        ("topk", 2, 1),
        ("topk", 4, 0),
        ("topk", 4, 1),
    ]
    assert [a.kind for a, _ in runs].count("jumprelu") == 6
    with pytest.raises(UnknownName, match="bandwidth"):
        grid(["topk"], {"bandwidth": [0.5]})
    with pytest.raises(ConfigError, match="k has no values"):
        grid(["topk"], {"k": []})


def test_a_folder_written_before_a_setting_existed_is_still_that_run(store, tmp_path) -> None:
    train(store, "resid_post.0", *RUNS[1], out=tmp_path / "d")
    config = read_json(tmp_path / "d" / CONFIG)
    del config["train"]["data_seed"]
    write_json(tmp_path / "d" / CONFIG, config)
    before = contents(tmp_path / "d")
    train(store, "resid_post.0", *RUNS[1], out=tmp_path / "d")
    assert contents(tmp_path / "d") == before


def test_comma_lists_on_the_command_line(workspace, capsys) -> None:
    planted_store(workspace.store("toy"))
    flags = ["--latents", "32", "--tokens", "1280", "--batch", "64", "--data-seed", "0"]
    command = ["train", "toy", "resid_post.0", *flags]
    sweep = ["--architecture", "topk,batchtopk", "--k", "2,3", "--seed", "0,1"]
    assert main([*command, *sweep]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["dictionary", "FVE", "MSE", "L0", "silent", "latents"]
    assert [line.split()[0] for line in lines[1:9]] == [
        f"{kind}-32-k{k}-s{seed}"
        for kind in ("topk", "batchtopk")
        for k in (2, 3)
        for seed in (0, 1)
    ]
    assert main([*command, *sweep, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["dictionaries"]
    assert [each["dictionary"] for each in found] == [line.split()[0] for line in lines[1:9]]
    assert all(each["metrics"]["heldout"]["latents"] == 32 for each in found)
    assert main([*command, "--k", "2,3", "--out", "one"]) == 2
    assert "--out names one dictionary, not 2" in capsys.readouterr().err
    assert main([*command, "--architecture", "l1,topk", "--bandwidth", "1"]) == 2
    assert "--bandwidth is a setting of jumprelu, not of l1 or topk" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main([*command, "--architecture", "topk,batchtop"])
    assert stop.value.code == 2
    assert "unknown value 'batchtop'; known: " in capsys.readouterr().err
