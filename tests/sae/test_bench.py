"""Contests: the same settings for all, figures that can be checked, failures that are told."""

import json
import sys
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import torch

from interp.cli import main
from interp.errors import ConfigError, FormatError
from interp.files import read_json
from interp.sae import TopK, TrainConfig, architectures, train
from interp.sae.bench import KINDS, Contest, contest, drivers, loop
from interp.sae.bench.contest import OURS, _contestants, _given, run
from interp.sae.bench.ours import Ours
from tests.benchmarks import optimisers
from tests.benchmarks.quality import at_l0
from tests.sae.shared import planted_store

SMALL = Contest(d_in=16, latents=48, k=3, batch=32, seconds=0.01, steps=3, batches=4, threads=1)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return _given(SMALL, tmp_path_factory.mktemp("rows"))


def test_rows_are_scaled_as_the_trainer_scales_and_the_same_every_time(given, tmp_path) -> None:
    rows, heldout = np.load(given["train"]), np.load(given["heldout"])
    assert rows.shape == (128, 16)
    assert np.linalg.norm(rows, axis=1).mean() == pytest.approx(4.0, rel=1e-5)
    assert given["variance"] == pytest.approx(rows.var(axis=0).sum(), rel=1e-4)
    again = _given(SMALL, tmp_path)
    assert np.array_equal(np.load(again["train"]), rows)
    assert not np.isin(heldout[:, 0], rows[:, 0]).any()


@pytest.mark.parametrize(
    ("kind", "by"), [(kind, by) for kind in KINDS for by in OURS.get(kind, ("dense", "compiled"))]
)
def test_each_of_ours_takes_steps_and_is_measured(kind: str, by: str, given, monkeypatch, capsys):
    settings = {**given, "kind": kind, "by": by}
    monkeypatch.setattr(sys, "argv", ["ours", json.dumps(settings)])
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    loop.main(Ours)
    found = json.loads(capsys.readouterr().out)
    assert found["steps"] >= 4  # one to load, three that count
    assert 0 < found["fastest_ms"] <= found["step_ms"]
    assert found["user_ms"] >= 0
    assert found["system_ms"] >= 0
    assert found["fve_seconds"] < 1
    assert 0 <= found["dead"] <= 1
    if kind in ("topk", "batchtopk", "matryoshka"):
        assert 0 < found["l0"] <= 3


def test_figures_are_of_the_held_out_rows() -> None:
    class Half:
        def step(self, x):
            pass

        def explain(self, x):
            z = torch.zeros(len(x), 4)
            z[:, 0] = 1
            z[0, 1] = 2
            return x.mean(dim=0) + (x - x.mean(dim=0)) / 2, z

    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    found = loop.measured(Half(), x)
    assert found["fve"] == pytest.approx(0.75)
    assert found["l0"] == pytest.approx(1.1)
    assert found["dead"] == 0.5
    rare = torch.randn(10, 3, generator=torch.Generator().manual_seed(1))
    assert loop.measured(Half(), x, rare)["dead"] == 0.5

    class Rare(Half):
        def explain(self, x):
            estimate, z = super().explain(x)
            z[:, 3] = x[:, 0] > 50
            return estimate, z

    rare[7, 0] = 51.0
    assert loop.measured(Rare(), x)["dead"] == 0.5
    assert loop.measured(Rare(), x, rare)["dead"] == 0.25


@pytest.mark.parametrize("same", [True, False])
def test_other_trainers_are_given_our_matrix_library_if_asked(same, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("INTERP_PRODUCTS", "onednn")
    found = _given(replace(SMALL, same_products=same), tmp_path)
    assert found["permission"] == ("bf16" if same else "none")
    (tmp_path / "told.py").write_text(
        "import loop, torch\n"
        "class Told:\n"
        "    def __init__(self, settings): self.n = settings['latents']\n"
        "    def step(self, x): pass\n"
        "    def explain(self, x):\n"
        "        told = torch.backends.mkldnn.matmul.fp32_precision == 'bf16'\n"
        "        return x, torch.full((len(x), self.n), float(told))\n"
        "loop.main(Told)\n"
    )
    row = run([sys.executable, str(tmp_path / "told.py")], {**found, "kind": "topk", "by": ""})
    assert row["l0"] == (48 if same else 0)


DRIVER = """
import loop, torch
class Mean:
    def __init__(self, settings): self.latents = settings["latents"]
    def step(self, x): self.mean = x.mean(dim=0)
    def explain(self, x): return x.mean(dim=0).expand_as(x), torch.ones(len(x), self.latents)
loop.main(Mean)
"""


def test_peers_run_in_their_own_process_and_one_that_fails_says_why(tmp_path, monkeypatch) -> None:
    (tmp_path / "mean.py").write_text(DRIVER)
    (tmp_path / "broken.py").write_text("raise RuntimeError('no such peer here')")
    (tmp_path / "peers.json").write_text(
        json.dumps(
            {
                "mean": {"driver": "mean.py", "kinds": ["topk"]},
                "broken": {"driver": "broken.py", "kinds": ["topk", "l1"]},
            }
        )
    )
    peers = drivers(tmp_path, sys.executable)
    assert [row[0] for row in _contestants("l1", peers)][-1] == "broken"
    monkeypatch.setitem(sys.modules["interp.sae.bench.contest"].OURS, "topk", ())
    told: list[tuple[int, int, str]] = []
    mean, broken = contest(SMALL, ["topk"], peers, lambda d, t, note="": told.append((d, t, note)))
    assert (mean["trainer"], mean["l0"], mean["dead"]) == ("mean", 48, 0)
    assert mean["fve_steps"] == pytest.approx(0, abs=1e-9)
    assert broken["error"] == "RuntimeError: no such peer here"
    steps = [(0, 2, "making rows"), (0, 2, "topk: mean"), (1, 2, "topk: broken"), (2, 2, "")]
    assert told == steps


def test_the_verb_prints_a_table_and_writes_the_figures(tmp_path, monkeypatch, capsys) -> None:
    figures = {"step_ms": 2.0, "steps": 4, "fve_steps": 0.1, "fve_seconds": 0.2, "l0": 3.0}
    figures |= {"dead": 0.0, "memory_mb": 1.0}
    rows = [
        {"kind": "topk", "trainer": "ours, dense", **figures},
        {"kind": "topk", "trainer": "ours, compiled", **figures, "step_ms": 0.5},
        {"kind": "topk", "trainer": "another", "error": "it broke"},
    ]
    asked = []

    def found(settings, kinds, peers, progress):
        asked.append((settings, kinds, peers))
        return rows

    monkeypatch.setattr("interp.sae.bench.contest", found)
    out = tmp_path / "bench.json"
    assert main(["bench", "--quick", "--kinds", "topk", "--k", "8", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "another failed: it broke" in text
    assert json.loads(out.read_text())["figures"] == rows
    (fields,) = [line.split() for line in text.splitlines() if "compiled" in line]
    assert fields[2:4] == ["0.5", "4"]
    assert asked == [(Contest(k=8, seconds=2.0, steps=4, batches=4), ["topk"], [])]
    assert main(["bench", "--quick", "--out", str(tmp_path)]) == 1
    assert "it is a folder; name a file" in capsys.readouterr().err
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"k": 700}, "k=700 is more than d_in=576 or the latents"),
        ({"lr": 0.0}, "lr must be a number > 0"),
        ({"seconds": float("inf")}, "seconds must be a number > 0"),
        ({"threads": -1}, "threads must not be negative"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Contest(**wrong)


def test_drivers_that_are_not_there_or_damaged_are_refused(tmp_path, capsys) -> None:
    with pytest.raises(ConfigError, match=r"peers.json does not exist; name the peers' Python"):
        drivers(tmp_path, sys.executable)
    (tmp_path / "peers.json").write_text('{"one": {"kinds": []}}')
    with pytest.raises(FormatError, match=r"peers.json lacks 'driver'"):
        drivers(tmp_path, sys.executable)
    assert main(["bench", "--peers", sys.executable]) == 2
    assert "--peers and --drivers belong together" in capsys.readouterr().err


def test_figures_at_one_l0_lie_between_those_of_two_strengths() -> None:
    def one(l0: float, fve: float, seed: int = 0) -> dict[str, float]:
        return {"seed": seed, "l0": l0, "fve_steps": fve, "dead": 0.0, "recovered": fve, "kl": 1.0}

    each = [one(16, 0.5), one(256, 0.9), one(64, 0.8), one(32, 0.1, seed=1)]
    assert at_l0(each, 0, 128)["fve_steps"] == pytest.approx(0.85)
    assert at_l0(each, 0, 64)["fve_steps"] == pytest.approx(0.8)
    assert at_l0(each, 0, 32)["recovered"] == pytest.approx(0.65)
    assert "those reached: 16, 64, 256" in at_l0(each, 0, 300)["error"]
    assert "those reached: 32" in at_l0(each, 1, 33)["error"]


@pytest.mark.parametrize(
    ("kind", "name"), [("l1", "l1_coefficient"), ("jumprelu", "l0_coefficient")]
)
def test_a_strength_multiplies_our_penalty(kind: str, name: str, given) -> None:
    ours = Ours({**given, "kind": kind, "by": "compiled", "strength": 3.0})
    default = architectures()[kind]()
    usual = 3e-3 if kind == "jumprelu" else getattr(default, name)
    assert getattr(ours.trainer.learner.config, name) == pytest.approx(3 * usual)


def test_other_optimisers_stand_where_the_trainers_does(tmp_path) -> None:
    store = planted_store(tmp_path / "store")
    args = Namespace(site="resid_post.0", latents=32, k=4, tokens=40_000)
    fve = {
        name: optimisers.measured(store, args, name, 2.0, seed=0)[0] for name in optimisers.OTHERS
    }
    config = TrainConfig(tokens=40_000, lr=2 * TrainConfig().peak_lr(32), dead_after=13_333)
    train(store, "resid_post.0", TopK(latents=32, k=4), config, out=tmp_path / "d")
    ours = read_json(tmp_path / "d" / "metrics.json")["heldout"]["fve"]
    assert fve["Adam"] == pytest.approx(ours, abs=1e-4)
    assert all(0.1 < each <= 1 for each in fve.values())
    assert len(set(fve.values())) == len(fve)
