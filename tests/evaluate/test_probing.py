"""Sparse probes find a unit that is planted, find nothing in noise, and count documents."""

import json

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from interp.cli import main
from interp.errors import ConfigError, DataError
from interp.evaluate.probing import choose, judge, pool, probe
from interp.features import neurons, random_directions
from interp.sae import TopK, TrainConfig, train
from tests.stores import make_store

SITE, WIDTH, ROWS, DOCUMENTS = "resid_post.0", 6, 1800, 30


def values(seed: int = 0) -> np.ndarray:
    """Noise; neuron 4 falls on documents of the first domain, neuron 2 rises a little there."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(ROWS, WIDTH)).astype(np.float32)
    prose = np.repeat(np.arange(DOCUMENTS), ROWS // DOCUMENTS) % 3 == 0
    x[prose, 4] -= 3
    x[prose, 2] += 1
    return x


@pytest.fixture(autouse=True)
def domains(monkeypatch):
    """`make_store` gives a domain to every held-out document; here split and domain differ."""
    import tests.stores as stores

    plain = stores.StoredDocument

    def document(**fields):
        index = int(fields["title"].split()[1])
        return plain(**{**fields, "heldout": index // 3 % 2 == 1})

    monkeypatch.setattr(stores, "StoredDocument", document)


@pytest.fixture
def store(tmp_path):
    sinks = np.zeros(ROWS, bool)
    sinks[::50] = True
    return make_store(
        tmp_path / "toy",
        activations={SITE: values()},
        documents=DOCUMENTS,
        sinks=sinks,
        dtype="float32",
    )


def test_the_planted_unit_is_found_and_reads_the_label(store) -> None:
    basis = neurons(store, SITE)
    found = {(each.label, each.k): each for each in probe([basis], store)}
    assert {label for label, _ in found} == {"domain=prose", "domain=code", "domain=verse"}
    one = found["domain=prose", 1]
    assert one.units == (9,)  # the negative side of neuron 4
    assert one.auroc > 0.99
    assert one.balanced_accuracy > 0.95
    assert one.auroc_low <= one.auroc <= one.auroc_high
    assert found["domain=prose", 5].units[0] == 9
    assert (one.documents, one.others) == (5, 10)


def test_noise_has_no_label_in_the_mean_over_draws(tmp_path) -> None:
    found = []
    for seed in range(12):
        noise = np.random.default_rng(100 + seed).normal(size=(ROWS, WIDTH))
        plain = make_store(tmp_path / str(seed), activations={SITE: noise}, documents=DOCUMENTS)
        found += probe([neurons(plain, SITE)], plain, ks=(1,))
    # One AUROC of noise has a standard deviation of .13 here; a leak would lift all of them.
    assert abs(np.mean([each.auroc for each in found]) - 0.5) < 0.08
    assert abs(np.mean([each.balanced_accuracy for each in found]) - 0.5) < 0.08


def test_pooling_is_the_mean_over_a_window_s_rows_without_sinks(store) -> None:
    examples = choose(store, 10**6, seed=0)
    basis = neurons(store, SITE)
    found = pool(basis, store, examples)
    x = store.read(SITE, 0, store.rows)
    for window in (0, 7, len(found) - 1):
        rows = np.flatnonzero(examples.of_row == window)
        assert not store.sinks[rows].any()
        assert (np.diff(store.document_index[rows]) == 0).all()
        np.testing.assert_allclose(found[window, 4::2], np.maximum(x[rows, 2:], 0).mean(0), 1e-5)
        np.testing.assert_allclose(found[window, 5::2], np.maximum(-x[rows, 2:], 0).mean(0), 1e-5)
    assert (examples.of_row >= 0).sum() == (~store.sinks).sum()
    fewer = choose(store, 9, seed=1)
    assert (~fewer.heldout).sum() == fewer.heldout.sum() == 9


def test_estimates_equal_scikit_learn_s_and_intervals_resample_documents() -> None:
    draw = np.random.default_rng(3)
    document = np.repeat(np.arange(40), 5)
    positive = document % 4 == 0
    score = np.round(draw.normal(size=200) + positive + draw.normal(size=40)[document], 1)
    accuracy, auroc = judge(score, positive, document, seed=0)
    assert accuracy[0] == pytest.approx(balanced_accuracy_score(positive, score > 0))
    assert auroc[0] == pytest.approx(roc_auc_score(positive, score))
    by_hand = []
    for _ in range(1000):
        chosen = draw.integers(0, 40, 40)
        rows = (chosen[:, None] * 5 + np.arange(5)).ravel()
        if positive[rows].any():
            by_hand.append(roc_auc_score(positive[rows], score[rows]))
    np.testing.assert_allclose(auroc[1:], np.quantile(by_hand, [0.025, 0.975]), atol=0.03)
    # Copies of windows within a document are no new evidence.
    again = np.repeat(np.arange(200), 3)
    _, copied = judge(score[again], positive[again], document[again], seed=0)
    np.testing.assert_allclose(copied, auroc, atol=1e-12)


def test_held_out_windows_choose_and_train_nothing(store, tmp_path) -> None:
    changed = np.where(store.heldout[:, None], -7 * values(4), values())
    other = make_store(
        tmp_path / "c",
        activations={SITE: changed},
        documents=DOCUMENTS,
        sinks=store.sinks,
        dtype="float32",
    )
    before, after = (probe([neurons(s, SITE)], s, ks=(3,)) for s in (store, other))
    assert [each.units for each in before] == [each.units for each in after]
    assert [each.auroc for each in before] != [each.auroc for each in after]


def test_wrong_use_is_one_sentence(store, tmp_path) -> None:
    basis = neurons(store, SITE)
    with pytest.raises(ConfigError, match="at least 1"):
        probe([basis], store, ks=(0,))
    with pytest.raises(ConfigError, match="one site"):
        probe([], store)
    few = make_store(tmp_path / "few", documents=6)
    with pytest.raises(DataError, match="no domain or language"):
        probe([neurons(few, SITE)], few)


def test_the_command_line_probes_dictionaries_and_controls(store, workspace, capsys) -> None:
    make_store(workspace.store("toy"), activations={SITE: values()}, documents=DOCUMENTS)
    assert main(["fit", "toy", SITE]) == 0
    capsys.readouterr()
    assert main(["evaluate", "toy", SITE, "--no-model", "--probe", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["probes"]
    assert {each["basis"] for each in found} == {"neurons", "random", "pca-6-k32-s0"}
    assert {each["k"] for each in found} == {1, 5}


def test_the_command_line_probes_the_model_with_random_weights_too(workspace, capsys) -> None:
    for model in ("toy", "toy@random"):
        made = make_store(
            workspace.store(model), activations={SITE: values()}, documents=DOCUMENTS, model=model
        )
        out = workspace.dictionary(model, SITE, "topk-12-k2-s0")
        train(made, SITE, TopK(latents=12, k=2), TrainConfig(tokens=512, batch=64), out=out)
    capsys.readouterr()
    flags = ["--no-model", "--probe", "--perturb", "--json"]
    assert main(["evaluate", "toy", SITE, *flags]) == 0
    found = json.loads(capsys.readouterr().out)
    (theirs,) = found["random_weights"].values()
    assert found["random_weights"].keys() == {"toy@random"}
    assert theirs.keys() == {"probes", "perturbations"}
    # The stores hold the same rows, so what is measured of both is the same.
    assert theirs["probes"] == found["probes"]
    assert theirs["perturbations"] == found["perturbations"]
    assert {each["basis"] for each in theirs["probes"]} >= {"neurons", "topk-12-k2-s0"}
    assert main(["evaluate", "toy", SITE, "--no-model", "--probe"]) == 0
    assert "sparse probing of toy@random" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_probes(store) -> None:
    bases = [neurons(store, SITE), random_directions(store, SITE, seed=1)]
    assert probe(bases, store, windows=20) == probe(bases, store, windows=20)
