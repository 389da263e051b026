"""FMS on labels that lie in one unit, in two alike, in two together, or in none; and over seeds."""

import json

import numpy as np
import pytest
from scipy.stats import t
from sklearn.metrics import balanced_accuracy_score

from interp.cli import main
from interp.errors import ConfigError
from interp.evaluate import isolation
from interp.evaluate.isolation import balanced, isolated
from interp.evaluate.probing import Examples
from interp.features import neurons
from interp.sae import TopK, TrainConfig, train
from tests.evaluate.test_probing import DOCUMENTS, SITE, domains, values  # noqa: F401
from tests.stores import make_store

WINDOWS, PER = 1200, 10


def examples() -> Examples:
    """Windows of 120 documents, every other one held out."""
    document = np.repeat(np.arange(WINDOWS // PER), PER)
    return Examples(np.arange(WINDOWS), document, document % 2 == 1, np.ones(WINDOWS, np.int64))


def scored(columns: np.ndarray, positive: np.ndarray, p: int = 1) -> tuple[float, ...]:
    """acc_0, local, global and FMS@p as measured."""
    found = isolated(columns.astype(np.float32), positive, examples(), [p], 0)
    first, local, whole = found.accuracy[0], found.local[0, 0], found.whole[0]
    return first, local, whole, first * (local + whole) / 2


def world(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A label of a quarter of the documents, and eight columns of noise."""
    draw = np.random.default_rng(seed)
    positive = (np.arange(WINDOWS) // PER) % 8 < 2
    return positive, draw.normal(size=(WINDOWS, 8))


def test_one_unit_that_is_the_label_has_one():
    positive, x = world()
    x[:, 3] = positive + 0.01 * x[:, 3]
    found = isolated(x.astype(np.float32), positive, examples(), [1], 0)
    assert found.root == 3
    np.testing.assert_allclose(scored(x, positive)[0], 1)
    assert scored(x, positive)[3] == pytest.approx(1, abs=0.12)  # local: noise is at ½


def test_a_second_unit_alike_costs_the_local_part():
    positive, x = world()
    x[:, 3] = positive + 0.01 * x[:, 3]
    x[:, 5] = 2 * positive + 0.01 * x[:, 5]
    first, local, whole, fms = scored(x, positive)
    assert (first, local, whole) == (1, 0, 1)
    assert fms == pytest.approx(0.5)
    assert scored(x, positive, p=2)[1] == pytest.approx(1, abs=0.2)  # both gone: nothing is left


def test_a_label_in_two_units_together_costs_the_global_part():
    """The label is there where both units are on; each alone is on for others too."""
    positive, x = world()
    groups = (np.arange(WINDOWS) // PER) % 8
    x[:, 0] = np.isin(groups, [0, 1, 2, 3]) + 0.01 * x[:, 0]
    x[:, 1] = np.isin(groups, [0, 1, 4, 5]) + 0.01 * x[:, 1]
    first, _, whole, _ = scored(x, positive)
    # a split at one unit: all of the label right, a third of the rest wrong
    assert first == pytest.approx((1 + 2 / 3) / 2)
    assert whole == pytest.approx(
        1 - (1 - first), abs=0.02
    )  # the second split adds what is missing


def test_noise_has_a_quarter_in_the_mean():
    found = [scored(world(seed)[1], world(seed)[0])[3] for seed in range(8)]
    assert np.mean(found) == pytest.approx(0.25, abs=0.04)


def test_constant_units_and_fewer_units_than_roots_are_no_error():
    positive, x = world()
    x[:] = 0
    x[:, 2] = positive
    found = isolated(x.astype(np.float32), positive, examples(), [5], 0)
    assert (found.root, found.accuracy[0], found.local[0, 0]) == (2, 1, 1)


def test_the_root_is_the_best_gini_split_over_all_units_and_places():
    positive, x = world(3)
    x[:, 6] += positive
    found = isolated(x.astype(np.float32), positive, examples(), [1], 0)
    train = ~examples().heldout
    y, weight = positive[train], np.where(positive[train], 1 / 0.25, 1 / 0.75)
    best = (np.inf, -1, 0.0)
    for unit in range(8):
        column = x[train, unit].astype(np.float32)
        for cut in (np.sort(column)[1:] + np.sort(column)[:-1]) / 2:
            impurity = 0.0
            for side in (column <= cut, column > cut):
                total = weight[side].sum()
                share = (weight * y)[side].sum() / total if total else 0
                impurity += total * 2 * share * (1 - share)
            best = min(best, (impurity, unit, float(cut)))
    _, unit, cut = best
    assert found.root == unit == 6
    held = examples().heldout
    wanted = balanced_accuracy_score(positive[held], x[held, unit] > cut)
    assert found.accuracy[0] == pytest.approx(wanted, abs=1e-9)


def test_accuracy_equals_scikit_learn_s_and_draws_documents():
    draw = np.random.default_rng(2)
    document = np.repeat(np.arange(40), 5)
    positive = document % 4 == 0
    said = (draw.random(200) < 0.3) | (positive & (draw.random(200) < 0.5))
    found = balanced(said, positive, document, seed=0)
    assert found[0] == pytest.approx(balanced_accuracy_score(positive, said))
    twice = np.repeat(np.arange(200), 2)
    again = balanced(said[twice], positive[twice], document[twice], seed=0)
    np.testing.assert_allclose(found, again, atol=1e-12)


def test_bases_are_scored_and_wrong_use_is_one_sentence(workspace, capsys):
    made = make_store(workspace.store("toy"), activations={SITE: values()}, documents=DOCUMENTS)
    for seed in (0, 1):
        out = workspace.dictionary("toy", SITE, f"topk-12-k2-s{seed}")
        config = TrainConfig(tokens=512, batch=64, seed=seed)
        train(made, SITE, TopK(latents=12, k=2), config, out=out)
    basis = neurons(made, SITE)
    first, second = isolation([basis], made, ps=(1, 3))
    assert (first.p, second.p) == (1, 3)
    assert first.roots["domain=prose"] in (4, 9)  # two planted units tell it without an error
    assert first.by_label["domain=prose"] == pytest.approx(0.5, abs=0.05)  # not in one alone
    assert first.fms_low <= first.fms <= first.fms_high
    assert first.fms == pytest.approx(np.mean(list(first.by_label.values())))
    assert isolation([basis], made, ps=(1, 3)) == [first, second]
    with pytest.raises(ConfigError, match="at least 1"):
        isolation([basis], made, ps=(0,))
    with pytest.raises(ConfigError, match="one site"):
        isolation([], made)
    capsys.readouterr()
    assert main(["evaluate", "toy", SITE, "--no-model", "--isolation", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {each["basis"] for each in found["isolation"]} >= {"neurons", "topk-12-k2-s0"}
    fves = [each["heldout"]["fve"] for each in found["reports"][:2]]
    (over,) = (each for each in found["seeds"] if each["figure"] == "FVE")
    assert (over["address"], over["seeds"]) == (f"toy/{SITE}/topk-12-k2", 2)
    low, high = t.interval(0.95, 1, np.mean(fves), np.std(fves, ddof=1) / 2**0.5)
    assert (over["mean"], over["low"], over["high"]) == pytest.approx((np.mean(fves), low, high))
    assert main(["evaluate", "toy", SITE, "--no-model", "--isolation"]) == 0
    shown = capsys.readouterr().out
    assert ".25 is chance" in shown
    assert "means over seeds" in shown
