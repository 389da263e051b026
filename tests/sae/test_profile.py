"""The time split of a step: nothing counted twice, and a bound that is the stated formula."""

import json
import time

import pytest

from interp.cli import main
from interp.sae import TopK, TrainConfig
from interp.sae import profile as module
from interp.sae.kernels.clock import Clock, clock, timed
from interp.sae.kinds.l1 import L1
from interp.workspace import Workspace
from tests.sae.planted import Planted
from tests.sae.shared import planted_store, trainer_on


def test_parts_are_means_over_all_steps_but_the_first_and_add_up() -> None:
    steps = [
        {"encode": 9.0, "whole": 10.0},
        {"encode": 0.5, "select": 0.1, "search": 0.1, "_update": 0.2, "optimiser": 0.3, "whole": 2},
        {"encode": 0.7, "gather": 0.3, "sort": 0.1, "whole": 2.0},
    ]
    found = module.split(steps)
    expected = {"encode": 600, "select": 100, "gather": 200, "update": 150, "other": 950}
    assert found == pytest.approx({**expected, "whole": 2000})
    assert module.split(steps[:1])["encode"] == pytest.approx(9000)


def test_the_bound_is_the_stated_formula(monkeypatch) -> None:
    monkeypatch.setattr(module, "product_speed", lambda *size: 2e9)
    monkeypatch.setattr(module, "memory_speed", lambda: 5e8)
    found = module.bound(rows=100, d_in=30, latents=70)
    expected = 2 * 100 * 30 * 70 / 2e9 + 4 * (100 * 30 + 12 * 30 * 70) / 5e8
    assert found["bound_ms"] == pytest.approx(1e3 * expected)
    report = module.profile([{"whole": 4 * expected}], 100, 30, 70)
    assert report["reached"] == pytest.approx(0.25)


def test_a_product_measured_in_a_busy_moment_is_no_slower_than_the_steps_own(monkeypatch) -> None:
    monkeypatch.setattr(module, "product_speed", lambda *size: 1e6)
    monkeypatch.setattr(module, "memory_speed", lambda: 1e15)
    report = module.profile([{"encode": 0.2, "select": 0.1, "whole": 0.5}], 100, 30, 70)
    assert report["reached"] == pytest.approx(0.4)
    mixed = module.profile([{"encode": 0.2, "dense": 0.1, "whole": 0.5}], 100, 30, 70)
    assert mixed["bound_ms"] == pytest.approx(2e3 * 100 * 30 * 70 / 1e6)


def test_speeds_are_those_of_the_machine() -> None:
    assert 1e8 < module.product_speed(256, 64, 512) < 1e15
    assert 1e7 < module.memory_speed(megabytes=6) < 1e14


@pytest.mark.parametrize("architecture", [TopK(latents=96, k=4), L1(latents=96)])
def test_a_training_step_is_told_apart_into_its_parts(architecture) -> None:
    run = TrainConfig(tokens=64 * 6, batch=64)
    trainer = trainer_on(Planted(batch=64), architecture, run)
    trainer.step()
    assert Clock.running is None
    with clock() as counted:
        for _ in range(4):
            trainer.step()
    assert len(counted.steps) == 4
    found = module.split(counted.steps)
    whole = found.pop("whole")
    assert sum(found.values()) == pytest.approx(whole)
    named = {"data", "encode", "update", "other"}
    assert named | ({"dense"} if isinstance(architecture, L1) else {"reconstruct"}) <= set(found)
    assert all(taken > 0 for taken in found.values())


def test_a_clock_counts_what_was_waited_for() -> None:
    with clock() as counted, timed("whole"), timed("encode"):
        time.sleep(0.02)
    (step,) = counted.steps
    assert 0.02 <= step["encode"] <= step["whole"] < 1


TRAIN = ("train", "toy", "resid_post.0", "--architecture", "topk", "--tokens", "512", "--batch")
TRAIN = (*TRAIN, "64", "--latents", "32", "--k", "3", "--profile")


def test_train_prints_the_profile(workspace: Workspace, capsys) -> None:
    planted_store(workspace.store("toy"))
    assert main([*TRAIN, "--json"]) == 0
    profile = json.loads(capsys.readouterr().out)["profile"]
    assert profile["steps"] == 8
    assert sum(profile["parts_ms"].values()) == pytest.approx(profile["step_ms"])
    assert profile["reached"] == pytest.approx(profile["bound_ms"] / profile["step_ms"])
    assert main([*TRAIN]) == 0  # the dictionary is there already
    assert "no step was made" in capsys.readouterr().out


def test_a_profile_is_of_one_dictionary_on_a_processor(workspace: Workspace, capsys) -> None:
    planted_store(workspace.store("toy"))
    assert main([*TRAIN, "--seed", "0,1"]) == 2
    assert "--profile is of one dictionary, not 2" in capsys.readouterr().err
    assert main([*TRAIN, "--device", "cuda"]) == 2
    assert "--profile times a processor's loops, not cuda's" in capsys.readouterr().err
