"""A tiny run of every result, and what even that must show."""

from pathlib import Path

import pytest

import interp.store
from interp.config import from_dict, to_dict
from interp.files import read_json
from interp.lab import experiments, find_experiment, reproduce

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
    "density-sweep": {"features": 12, "hidden": 8, "steps": 600, "batch": 128, "lr": 0.02},
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
    "fractions": {"steps": 300, "batch": 128, "restarts": 6, "lr": 0.03},
    "pentagon": {"steps": 400, "batch": 64, "restarts": 16, "lr": 0.02, "tries": 4},
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
    "privileged-basis": {"steps": 800, "batch": 128, "restarts": 8, "lr": 0.02},
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
    "density-sweep": {
        "monosemantic neurons, density 1": (0.5, 1),
        "monosemantic neurons, density .001": (0, 0.6),
    },
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
    "fractions": {
        "features, triangle": (2, 4),
        "features, digon": (2, 2),
        "greatest |D - 1/2|": (0, 0.1),
        "features, pentagon": (4, 5),
        "features, square antiprism": (6, 9),
    },
    "pentagon": {"dimensionality": (0.38, 0.42), "norm": (1.0, 1.25), "hit rate": (0.1, 1)},
    "phase-diagram": {
        "cells in the computed phase, n=2 m=1": (0.66, 1),
        "cells in the computed phase, n=3 m=2": (0.4, 1),
    },
    "planted-recovery": {"MMCS": (0.8, 1), "MMCS of random directions": (0.3, 0.65)},
    "plateau": {"D*": (0.4, 0.7)},
    "privileged-basis": {
        "monosemantic neurons, least of density 1/2 up": (0.4, 1),
        "monosemantic neurons, most of density .08 down": (0, 0.2),
    },
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
    measured = {
        **{check.expected.quantity: check.mean for check in result.checks},
        **{each.quantity: each.mean for each in result.reported},
    }
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
