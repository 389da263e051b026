"""Removing a label's units: planted units against noise, and the formula written out."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from interp.cli import main
from interp.errors import ConfigError, DataError
from interp.evaluate import perturb
from interp.evaluate.perturbation import chosen
from interp.evaluate.probing import choose
from interp.features import neurons, random_directions
from interp.features.bases import DictionaryBasis
from interp.sae import Origin, TopK
from tests.evaluate.test_probing import domains  # noqa: F401
from tests.stores import make_store

SITE, WIDTH, ROWS, DOCUMENTS = "resid_post.0", 8, 2700, 30
NAMES = ("prose", "code", "verse")
SHIFTED = {"prose": (4, -1), "code": (1, 1), "verse": (6, 1)}
"""The neuron that each domain moves, and where to."""


def store_of(path, size: float):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(ROWS, WIDTH)).astype(np.float32)
    domain = np.repeat(np.arange(DOCUMENTS), ROWS // DOCUMENTS) % 3
    for index, name in enumerate(NAMES):
        neuron, sign = SHIFTED[name]
        x[domain == index, neuron] += sign * size
    return make_store(path, activations={SITE: x}, documents=DOCUMENTS, context=30, dtype="float32")


@pytest.fixture
def store(tmp_path):
    return store_of(tmp_path / "toy", 2.0)


def test_units_that_are_a_label_s_alone_are_told_from_random_ones(store) -> None:
    bases = [neurons(store, SITE), random_directions(store, SITE, n=64)]
    found = {(each.kind, each.n): each for each in perturb(bases, store, ns=(1, 2))}
    mine, control = found["neurons", 1], found["random", 1]
    assert mine.labels == tuple(f"domain={name}" for name in sorted(NAMES))
    assert mine.accuracy > 0.95
    assert mine.own > 0.15
    assert mine.tpp > 3 * abs(control.tpp)
    assert mine.tpp_low > control.tpp_high
    assert mine.tpp == pytest.approx(mine.own - mine.others)
    assert mine.tpp_low <= mine.tpp <= mine.tpp_high


def test_it_is_the_formula(store) -> None:
    """Rows themselves ablated, then averaged, and every accuracy by scikit-learn."""
    basis = neurons(store, SITE)
    found = perturb([basis], store, ns=(2,), seed=3)[0]
    examples = choose(store, 4096, 3)
    x = store.take(SITE, np.arange(store.rows))
    windows = len(examples.document)

    def means(rows: np.ndarray) -> np.ndarray:
        return np.stack([rows[examples.of_row == w].mean(axis=0) for w in range(windows)])

    pooled, train, held = means(x), ~examples.heldout, examples.heldout
    z = np.stack([np.maximum(x, 0), np.maximum(-x, 0)], axis=-1).reshape(len(x), -1)
    d = np.stack([np.eye(WIDTH), -np.eye(WIDTH)], axis=1).reshape(-1, WIDTH)
    name_of = np.array([each.domain for each in store.documents])[examples.document]
    scaler = StandardScaler().fit(pooled[train])
    probes = {}
    for name in NAMES:
        model = LogisticRegression(class_weight="balanced", max_iter=1000)
        probes[name] = model.fit(scaler.transform(pooled[train]), name_of[train] == name)

    def accuracy(name: str, rows: np.ndarray) -> float:
        given = probes[name].predict(scaler.transform(rows[held]))
        return balanced_accuracy_score(name_of[held] == name, given)

    drops = {}
    for removed in NAMES:
        mine = name_of == removed
        weight = probes[removed].coef_[0] / scaler.scale_
        zs = means(z)[train]
        product = (zs[mine[train]].mean(axis=0) - zs[~mine[train]].mean(axis=0)) * (d @ weight)
        units = np.argsort(-product)[:2]
        without = means(x - z[:, units] @ d[units])
        for name in NAMES:
            drops[removed, name] = accuracy(name, pooled) - accuracy(name, without)
    own = np.mean([drops[name, name] for name in NAMES])
    others = np.mean([drop for (one, other), drop in drops.items() if one != other])
    assert found.own == pytest.approx(own, abs=1e-9)
    assert found.others == pytest.approx(others, abs=1e-9)


def test_units_that_speak_against_a_label_are_not_its_own() -> None:
    z = np.array([[1, 0, 2], [1, 0, 2], [0, 1, 2]], np.float32)
    d = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    positive = np.array([True, True, False])
    assert chosen(z, d, positive, np.array([1.0, 0.0]), n=3).tolist() == [0]
    assert chosen(z, d, positive, np.array([-1.0, 0.0]), n=3).tolist() == [1]


def test_wrong_use_is_refused(store, tmp_path) -> None:
    basis = neurons(store, SITE)
    with pytest.raises(ConfigError, match="at least 1"):
        perturb([basis], store, ns=(0,))
    with pytest.raises(ConfigError, match="give at least one"):
        perturb([], store)
    origin = Origin(model="toy", site=SITE, store="toy", store_digest="0", target="mlp_out.0",
                    target_width=5)  # fmt: skip
    across = DictionaryBasis(TopK(latents=10, k=2).dictionary(WIDTH, origin))
    with pytest.raises(ConfigError, match="reads resid_post.0 and writes mlp_out.0"):
        perturb([across], store)
    few = make_store(tmp_path / "few", rows=300, sites={SITE: WIDTH}, documents=3)
    with pytest.raises(DataError, match="fewer than two domains"):
        perturb([neurons(few, SITE)], few)


def test_the_command_line_prints_it_with_its_warning(workspace, capsys) -> None:
    from interp.sae import TrainConfig, train

    store = store_of(workspace.store("toy"), 2.0)
    name = "topk-16-k2-s0"
    train(store, SITE, TopK(latents=16, k=2), TrainConfig(tokens=2048, batch=256),
          out=workspace.dictionary("toy", SITE, name))  # fmt: skip
    capsys.readouterr()
    assert main(["evaluate", "toy", SITE, name, "--no-model", "--perturb"]) == 0
    assert "never rank" in capsys.readouterr().out
    assert main(["evaluate", "toy", SITE, name, "--no-model", "--perturb", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["perturbations"]
    assert {each["basis"] for each in found} == {"neurons", "random", name}
