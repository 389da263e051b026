"""The registry, the judging, the file, the command; and a tiny run of every result."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import interp.store
from interp.cli import main
from interp.config import from_dict, to_dict
from interp.errors import ConfigError, DataError, FormatError, UnknownName
from interp.files import read_json, write_json
from interp.lab import (
    Check,
    Expected,
    Experiment,
    Figure,
    Measurement,
    experiments,
    find_experiment,
    reproduce,
    with_seeds,
)
from interp.lab.results.absolute_value import motifs
from interp.lab.results.adversarial import attack
from interp.lab.results.pentagon import is_pentagon
from interp.lab.results.phase_diagram import phases
from interp.lab.toys.superposition import Superposition

MODULAR = {
    "p": 11,
    "d_model": 32,
    "heads": 2,
    "d_mlp": 64,
    "share": 0.7,
    "weight_decay": 2.0,
    "lr": 0.003,
    "epochs": 300,
    "snapshots": 30,
}
SOURCE = str(Path(interp.store.__file__).parent)
"""A folder of this package: text enough."""
TINY = {
    "absolute-value": {"steps": 400, "batch": 64, "restarts": 4, "lr": 0.03},
    "adversarial": {
        "features": 12,
        "hidden": 4,
        "inverse_densities": (1.0, 5.0),
        "rows": 16,
        "steps": 300,
        "batch": 64,
        "lr": 0.02,
    },
    "before-and-after": {
        "epochs": (0, 2),
        "characters": 20_000,
        "windows": 48,
        "latents": 32,
        "k": 4,
        "tokens": 4096,
    },
    "correlated": {"steps": 400, "batch": 64, "restarts": 8, "lr": 0.02},
    "dense-vs-linear": {"steps": 600, "batch": 128, "lr": 0.02},
    "dimensions": {
        "features": 16,
        "hidden": 4,
        "inverse_densities": (2.0, 10.0),
        "steps": 400,
        "batch": 128,
        "lr": 0.03,
    },
    "double-descent": {
        "features": 40,
        "active": 4.0,
        "sizes": (3, 10, 100),
        "steps": 300,
        "test_rows": 500,
    },
    "fve-definitions": {"d_in": 16, "rows": 20_000},
    "grokking": MODULAR,
    "objective-and-superposition": {
        "inverse_densities": (1.0, 20.0),
        "restarts": 2,
        "steps": 300,
        "epochs": 60,
        "lr": 0.02,
    },
    "pentagon": {"steps": 400, "batch": 64, "restarts": 16, "lr": 0.02},
    "phase-diagram": {"cells": 3, "restarts": 3, "steps": 300, "batch": 64, "lr": 0.03},
    "planted-recovery": {
        "features": 16,
        "d_in": 16,
        "latents": 16,
        "k": 1,
        "rate": 0.06,
        "tokens": 60_000,
        "rows": 2000,
    },
    "plateau": {"features": 16, "hidden": 4, "models": 2, "steps": 400, "batch": 128, "lr": 0.03},
    "progress-measures": MODULAR,
    "seed-stability": {
        "features": 16,
        "d_in": 16,
        "latents": 16,
        "k": 1,
        "rate": 0.06,
        "dictionaries": 2,
        "tokens": 60_000,
    },
    "synth-sae-bench": {
        "shrink": 16,
        "narrow": 16,
        "k": 3,
        "start_k": 5,
        "tokens": 4096,
        "rows": 500,
    },
    "towards-monosemanticity": {
        "corpus": SOURCE,
        "vocabulary": 400,
        "d_mlp": 32,
        "steps": 20,
        "tokens": 4000,
        "widths": (32, 64),
        "k": 4,
        "dictionary_tokens": 8000,
        "windows": 4,
    },
    "untrained-control": {
        "corpus": SOURCE,
        "vocabulary": 400,
        "layers": 2,
        "d_model": 32,
        "steps": 20,
        "tokens": 6000,
        "latents": 64,
        "k": 4,
        "dictionary_tokens": 20_000,
    },
    "objectives": {"steps": 8, "batch": 16, "windows": 48},
    "one-sentence": {
        "steps": 2,
        "pretraining": 5,
        "rows": 1500,
        "latents": 64,
        "k": 4,
        "tokens": 2048,
    },
    "scaling-laws": {
        "widths": (8, 16),
        "characters": (4000, 8000, 16_000),
        "windows": 48,
        "latents": (32, 64),
        "k": (2, 4),
        "tokens": 4096,
        "replicates": 2,
    },
    "stages": {
        "context": 64,
        "steps": 12,
        "tuning_steps": 8,
        "preference_steps": 8,
        "batch": 16,
        "windows": 64,
        "latents": 32,
        "k": 4,
        "tokens": 8192,
    },
}
"""Settings of a second or two at most."""

MUST_HOLD = {
    "absolute-value": {"features with one neuron a sign": (3, 3)},
    "adversarial": {"greatest relative vulnerability": (1, 100)},
    "correlated": {"cos of correlated": (-0.3, 0.3), "cos of anticorrelated": (-1.01, -0.8)},
    "dense-vs-linear": {"features, dense ReLU": (5, 5), "features, dense linear": (5, 5)},
    "dimensions": {"least sum of D": (3.7, 4.01), "greatest sum of D": (3.9, 4.01)},
    "double-descent": {"test over train loss, least T": (5, 1e6)},
    "fve-definitions": {
        "FVE, least": (0.8, 0.82),
        "FVE, greatest": (0.8, 0.82),
        "SAEBench, greatest": (1.03, 1.07),
        "dictionary_learning": (0.83, 0.85),
        "uncentred, greatest": (0.96, 0.98),
    },
    "grokking": {"test accuracy": (0.3, 1), "logits explained": (0.2, 1)},
    "objective-and-superposition": {
        "told apart / number, cross-entropy, sparse": (1, 4),
        "single-feature neurons, cross-entropy": (0, 0.4),
    },
    "pentagon": {"dimensionality": (0.38, 0.42), "norm": (1.0, 1.25)},
    "phase-diagram": {"cells in the computed phase": (0.66, 1)},
    "planted-recovery": {"MMCS": (0.8, 1), "MMCS of random directions": (0.3, 0.65)},
    "plateau": {"D*": (0.4, 0.7)},
    "progress-measures": {
        "test accuracy": (0.3, 1),
        "excluded / train loss, end": (2, 1e9),
        "squared norm, end / peak": (0.1, 0.99),
    },
    "seed-stability": {"PW-MCC": (0.7, 1)},
    "synth-sae-bench": {"FVE, BatchTopK less Matryoshka": (-0.2, 0.2)},
    "towards-monosemanticity": {
        "loss recovered, widest": (0.3, 1.1),
        "latent purer than neuron, token_purity": (0.55, 1),
    },
    "untrained-control": {"trained purer than untrained, token_purity": (0.2, 0.8)},
    "before-and-after": {
        "loss, untrained": (4.4, 4.8),
        "structure gained by character, lower end": (0, 1),
    },
    "objectives": {"token purity, first - last layer, causal": (-1, 1)},
    "one-sentence": {
        "log P(City)/P(Zoo) before": (3, 20),
        "loss after / before": (0.1, 0.95),
        "loss on other text, rise": (-0.1, 0.1),
    },
    "scaling-laws": {"exponent of D": (0.02, 0.3), "R² in width and k": (0.5, 1.001)},
    "stages": {"shared by a stage and its copy": (0.99, 1), "held-out preferences met": (0.6, 1)},
}
"""What even those must show."""


def test_every_result_is_tried_here():
    assert set(TINY) == set(MUST_HOLD) == set(experiments())


HEAVY = {"before-and-after", "one-sentence"}
"""Ten seconds and more even so: SmolLM2 is trained, or several character models are."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in HEAVY else ()) for name in experiments()],
)
def test_a_tiny_run_of_each_result(name, furnished):
    experiment = from_dict(find_experiment(name), {**TINY[name], "seeds": 1})
    told: list[int] = []
    result = reproduce(experiment, progress=lambda done, total, note="": told.append(done))
    measured = {check.expected.quantity: check.mean for check in result.checks}
    for quantity, (low, high) in MUST_HOLD[name].items():
        assert low <= measured[quantity] <= high, (quantity, measured[quantity])
    assert told == sorted(told)
    assert told[-1] == 100
    assert result.figures
    for figure in result.figures:
        lengths = {len(point) for points in figure.series.values() for point in points}
        assert lengths == {3 if figure.kind == "heatmap" else 2}
    written = read_json(furnished.lab(name) / "result.json")
    assert written["passed"] == all(check.passed for check in result.checks)
    assert written["provenance"]["config"] == {"result": name, **to_dict(experiment)}
    assert [check["values"] for check in written["checks"]] == [
        list(check.values) for check in result.checks
    ]


@pytest.mark.parametrize("name", experiments())
@pytest.mark.parametrize("effort", ["quick", "full"])
def test_each_result_says_what_it_expects(name, effort):
    experiment = find_experiment(name).at(effort)
    assert experiment.claim.endswith(".")
    assert experiment.paper
    for expected in experiment.expected():
        assert expected.low <= expected.high
        assert expected.accepts(expected.value), expected


def test_a_run_is_repeatable_to_the_byte(workspace):
    settings = {**TINY["pentagon"], "restarts": 4, "steps": 40, "seeds": 2}
    experiment = from_dict(find_experiment("pentagon"), settings)
    path = workspace.lab("pentagon") / "result.json"
    first = reproduce(experiment)
    before = path.read_bytes()
    reproduce(experiment)
    assert path.read_bytes() == before
    values = [check.values for check in first.checks]
    assert all(len(each) == 2 for each in values)
    assert any(a != b for a, b in values)


# -- judging --------------------------------------------------------------------------------------


def test_a_check_passes_where_its_mean_lies_in_the_range():
    expected = Expected(quantity="q", value=1.0, low=0.9, high=1.1)
    inside = Check(expected=expected, values=(0.8, 1.1, 1.1))
    assert inside.passed
    assert inside.mean == pytest.approx(1.0)
    assert inside.spread == pytest.approx(np.std([0.8, 1.1, 1.1], ddof=1))
    for value in (0.89, 1.11):
        assert not Check(expected=expected, values=(value,)).passed
    assert Check(expected=expected, values=(1.0,)).spread is None
    assert Check(expected=expected, values=(1.1,)).passed
    open_ended = Expected(quantity="q", value=3.0, low=2.5)
    assert Check(expected=open_ended, values=(99.0,)).to_dict()["high"] is None


def test_a_measurement_that_is_no_number_is_refused():
    with pytest.raises(DataError, match="loss came out as nan"):
        Measurement(values={"loss": math.nan})


def test_unknown_results_and_no_seeds_are_refused():
    with pytest.raises(UnknownName, match="pentagon"):
        find_experiment("pentagram")
    with pytest.raises(ConfigError, match="seeds"):
        with_seeds(find_experiment("pentagon").at("quick"), 0)
    assert with_seeds(find_experiment("pentagon").at("quick"), 7).seeds == 7


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("pentagon", {"density": 0.0}, "density is the share"),
        ("double-descent", {"sizes": [3, 5]}, "three sizes"),
        ("double-descent", {"active": 0.0}, "active"),
        ("fve-definitions", {"rows": 1}, "rows"),
        ("pentagon", {"restarts": 0}, "restarts"),
        ("dimensions", {"inverse_densities": [0.5]}, "density is the share"),
        ("correlated", {"density": 0.6}, "density is the share"),
        ("phase-diagram", {"cells": 1}, "cells"),
        ("absolute-value", {"features": 0}, "features and restarts"),
        ("planted-recovery", {"rows": 0}, "rows"),
        ("seed-stability", {"dictionaries": 1}, "at least 2"),
        ("before-and-after", {"epochs": [1, 3]}, "rise from 0"),
        ("objectives", {"layers": 1}, "at least 2"),
        ("one-sentence", {"steps": 0}, "steps"),
        ("scaling-laws", {"widths": [16, 8]}, "rising"),
        ("stages", {"beta": 0.0}, "beta"),
        ("grokking", {"p": 8}, "odd"),
        ("progress-measures", {"seeds": 0}, "seeds"),
        ("objective-and-superposition", {"inverse_densities": [0.5]}, "density is the share"),
        ("objective-and-superposition", {"restarts": 0}, "restarts"),
        ("towards-monosemanticity", {"widths": [64, 32]}, "rise"),
        ("untrained-control", {"layers": 1}, "at least 2 layers"),
    ],
)
def test_impossible_settings_are_refused(name, settings, text):
    with pytest.raises(ConfigError, match=text):
        from_dict(find_experiment(name), settings)


def test_more_dimensions_than_features_are_refused_before_any_training():
    wide = from_dict(find_experiment("plateau"), {"features": 4, "hidden": 5})
    with pytest.raises(ConfigError, match="nothing to superpose"):
        wide.measure(0)


# -- what the results compute ---------------------------------------------------------------------


def test_pentagons_are_recognised_whatever_their_turn_and_size():
    turn = 2 * np.pi * np.arange(5) / 5 + 1.234
    W = np.stack([np.cos(turn), np.sin(turn)])[:, [3, 0, 4, 1, 2]]
    assert is_pentagon(1.13 * W)
    assert not is_pentagon(0.4 * W)
    bent = W.copy()
    bent[:, 0] = -bent[:, 1]
    assert not is_pentagon(bent)


def test_phases_follow_the_least_loss_as_sampled():
    """The closed forms against the mean loss of the three models over drawn rows."""
    draw = np.random.default_rng(0)
    density = np.array([0.9, 0.9, 0.1, 0.3])
    importance = np.array([0.3, 3.0, 1.0, 0.15])
    wanted = []
    for p, weight in zip(density, importance, strict=True):
        x = (draw.random((400_000, 2)) < p) * draw.random((400_000, 2))
        first = weight * x[:, 1].var()
        second = x[:, 0].var()
        difference = x[:, 0] - x[:, 1]
        apart = np.stack([np.maximum(difference, 0), np.maximum(-difference, 0)], axis=1)
        antipodal = (np.square(x - apart) * [1, weight]).sum(axis=1).mean()
        wanted.append(1 + int(np.argmin([first, second, antipodal])))
    assert phases(density, importance).tolist() == wanted == [1, 2, 3, 1]


def test_motifs_need_two_neurons_of_opposite_sign():
    W = torch.tensor([[1.0, 0, 0], [-1, 0, 0.1], [0, 2, 0], [0, 1, 0], [0, 0, -1], [0, 0, 1]])
    assert motifs(W) == 2
    assert motifs(W[:5]) == 1


def test_the_attack_on_orthogonal_features_gains_exactly_its_length():
    """Without superposition x'(x + δ) - x is δ itself within the stored features: gain ε²."""
    model = Superposition(1, 4, 2)
    with torch.no_grad():
        model.W.copy_(torch.tensor([[[1.0, 0, 0, 0], [0, 1, 0, 0]]]))
    x = torch.tensor([[[0.5, 0.6, 0.0, 0.0], [0.7, 0.2, 0.0, 0.0]]])
    assert attack(model, x, 0.1).item() == pytest.approx(0.01, rel=1e-3)


def test_the_attack_is_the_most_harmful_row_of_the_gram_matrix():
    model = Superposition(2, 5, 3, seed=1)
    rows = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(0))
    found = attack(model, rows, 0.3).numpy()
    for instance in range(2):
        W, b = (each[instance].detach().double().numpy() for each in (model.W, model.b))
        x, gram = rows[instance].double().numpy(), W.T @ W
        errors = [
            np.square(np.maximum((x + step) @ gram + b, 0) - x).sum(axis=1).mean()
            for step in [np.zeros(5), *(0.3 * row / np.linalg.norm(row) for row in gram)]
        ]
        assert found[instance] == pytest.approx(max(errors[1:]) - errors[0], rel=1e-4)


# -- the command ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Coin(Experiment):
    """A result that costs nothing; it has no name of its own, so that it is not registered."""

    @classmethod
    def at(cls, effort):
        return cls()

    def expected(self):
        return (
            Expected(quantity="heads", value=0.5, low=0.4, high=0.6),
            Expected(quantity="edge", value=1.0, low=0.9),
        )

    def measure(self, seed, progress=None):
        figure = Figure(title="t", kind="line", x="x", y="y", series={"s": [(0.0, 1.0)]})
        return Measurement(values={"heads": 0.45 + 0.1 * seed, "edge": 0.1}, figures=(figure,))


@pytest.fixture
def coin(monkeypatch):
    """`interp lab` knows one result: a coin."""
    from interp.lab import result

    Coin.name, Coin.paper, Coin.claim = "coin", "Bernoulli 1713, Ars Conjectandi", "Coins are fair."
    monkeypatch.setattr(result, "_KNOWN", {"coin": Coin})


def test_list_run_and_table(workspace, coin, capsys):
    assert main(["lab", "list"]) == 0
    assert "Coins are fair." in capsys.readouterr().out
    assert main(["lab", "table"]) == 0
    assert "not run" in capsys.readouterr().out
    assert main(["lab", "run", "coin", "--quick", "--seeds", "2"]) == 0  # failing is a result
    out = capsys.readouterr().out
    assert "Bernoulli 1713" in out
    assert "setting (quick): seeds 2" in out
    assert main(["lab", "table"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[1].split()) == "coin heads 0.5 0.4 to 0.6 0.5 0.07071 2 pass (quick)"
    assert lines[2].endswith("FAIL, below (quick)")


def test_json_is_one_object(workspace, coin, capsys):
    assert main(["lab", "run", "all", "--full", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert (result["passed"], result["effort"], result["setting"]) == (False, "full", {"seeds": 3})
    assert result["figures"][0]["series"] == {"s": [[0.0, 1.0]]}
    assert main(["lab", "table", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["results"]["coin"]["provenance"]["job"] == "lab"
    assert [row["verdict"] for row in table["rows"]] == ["pass (full)", "FAIL, below (full)"]
    assert main(["lab", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["result"] == "coin"


def test_wrong_use_is_one_sentence(workspace, coin, capsys):
    assert main(["lab", "run"]) == 2
    assert "interp lab list" in capsys.readouterr().err
    assert main(["lab", "run", "dice"]) == 2
    assert "coin" in capsys.readouterr().err
    assert main(["lab", "run", "coin", "--seeds", "0"]) == 2
    assert "seeds must be at least 1" in capsys.readouterr().err


def test_a_result_of_another_version_is_named(workspace, coin):
    from interp.lab import reproduced

    path = workspace.lab("coin") / "result.json"
    write_json(path, {"version": 99})
    with pytest.raises(FormatError, match="version 99"):
        reproduced(workspace)
