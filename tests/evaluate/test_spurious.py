"""Removing what misled a probe: planted labels against noise, and the formula written out."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import tests.stores as stores
from interp.cli import main
from interp.errors import ConfigError, DataError
from interp.evaluate import remove_spurious
from interp.evaluate.probing import choose
from interp.evaluate.spurious import spurious_units
from interp.features import neurons, random_directions
from interp.features.bases import DictionaryBasis
from interp.sae import Origin, TopK
from tests.stores import make_store

SITE, WIDTH, DOCUMENTS, EACH = "resid_post.0", 8, 72, 58
DOMAIN, LANGUAGE = 5, 2
"""The neurons that read code, and German."""


@pytest.fixture(autouse=True)
def crossed(monkeypatch):
    """`make_store` gives every document one language; here it, domain and split are crossed."""
    plain = stores.StoredDocument

    def document(**fields):
        index = int(fields["title"].split()[1])
        mine = {"language": ("de", "en")[index // 3 % 2], "heldout": index // 6 % 2 == 1}
        return plain(**{**fields, **mine})

    monkeypatch.setattr(stores, "StoredDocument", document)


def store_of(path, domain: float = 0.3, language: float = 1.5):
    index = np.repeat(np.arange(DOCUMENTS), EACH)
    x = np.random.default_rng(0).normal(size=(len(index), WIDTH)).astype(np.float32)
    x[index % 3 == 1, DOMAIN] += domain
    x[:, LANGUAGE] += np.where(index // 3 % 2 == 0, -language, language) / 2
    return make_store(path, activations={SITE: x}, documents=DOCUMENTS, context=30, dtype="float32")


@pytest.fixture
def store(tmp_path):
    return store_of(tmp_path / "toy")


def test_units_of_the_spurious_label_free_the_probe_and_random_ones_do_not(store) -> None:
    bases = [neurons(store, SITE), random_directions(store, SITE, n=64)]
    found = remove_spurious(bases, store, ns=(2,))
    of = {(each.kind, each.target, each.spurious): each for each in found}
    mine, control = (of[kind, "domain=code", "language=de"] for kind in ("neurons", "random"))
    assert mine.oracle - mine.biased > 0.05
    assert mine.scr > 0.7
    assert mine.scr_low > max(control.scr_high, 0.3)
    assert mine.scr_low <= mine.scr <= mine.scr_high
    assert mine.scr == pytest.approx((mine.ablated - mine.biased) / (mine.oracle - mine.biased))


def test_it_is_the_formula(store) -> None:
    """Rows themselves ablated, then averaged; probes and accuracies cell by cell."""
    basis = neurons(store, SITE)
    (found,) = (
        each
        for each in remove_spurious([basis], store, ns=(3,), seed=4)
        if (each.target, each.spurious) == ("domain=code", "language=de")
    )
    examples = choose(store, 4096, 4)
    x = store.take(SITE, np.arange(store.rows)).astype(np.float64)

    def means(rows: np.ndarray) -> np.ndarray:
        count = range(len(examples.document))
        return np.stack([rows[examples.of_row == each].mean(axis=0) for each in count])

    documents = [store.documents[each] for each in examples.document]
    t = np.array([each.domain == "code" for each in documents])
    s = np.array([each.language == "de" for each in documents])
    train, pooled = ~examples.heldout, means(x)
    share = {c: np.mean(train & (t == c[0]) & (s == c[1])) for c in np.ndindex(2, 2)}
    weight = np.array([1 / share[int(a), int(b)] for a, b in zip(t, s, strict=True)])

    def probe(y: np.ndarray, of: np.ndarray):
        scaler = StandardScaler().fit(pooled[of])
        model = LogisticRegression(max_iter=1000)
        # In the mean a weight of 1, so that the penalty weighs as much as in plain regression.
        given = weight[of] / weight[of].mean()
        model.fit(scaler.transform(pooled[of]), y[of], sample_weight=given)
        return scaler, model

    def accuracy(fitted, rows: np.ndarray) -> float:
        right = fitted[1].predict(fitted[0].transform(rows)) == t
        held = examples.heldout
        return np.mean([right[held & (t == a) & (s == b)].mean() for a, b in np.ndindex(2, 2)])

    biased, oracle = probe(t, train & (t == s)), probe(t, train)
    scaler, reads = probe(s, train)
    z = np.stack([np.maximum(x, 0), np.maximum(-x, 0)], axis=-1).reshape(len(x), -1)
    d = np.stack([np.eye(WIDTH), -np.eye(WIDTH)], axis=1).reshape(-1, WIDTH)
    zs = means(z)
    more = [
        zs[train & (t == a) & s].mean(axis=0) - zs[train & (t == a) & ~s].mean(axis=0)
        for a in (0, 1)
    ]
    product = np.mean(more, axis=0) * (d @ (reads.coef_[0] / scaler.scale_))
    units = np.argsort(-product)[:3]
    ablated = accuracy(biased, means(x - z[:, units] @ d[units]))
    before, best = accuracy(biased, pooled), accuracy(oracle, pooled)
    assert found.biased == pytest.approx(before, abs=1e-9)
    assert found.oracle == pytest.approx(best, abs=1e-9)
    assert found.ablated == pytest.approx(ablated, abs=1e-9)
    assert found.scr == pytest.approx((ablated - before) / (best - before), abs=1e-9)


def test_a_unit_of_the_target_alone_is_never_chosen() -> None:
    """Its mean differs between the spurious sides only because the cells are of unequal size."""
    t = np.array([1, 1, 1, 0, 1, 0, 0, 0], bool)
    s = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    z = np.stack([t, s, np.ones(8)], axis=1).astype(np.float32)
    d = np.eye(3, dtype=np.float32)
    assert spurious_units(z, d, t, s, np.ones(3), n=3).tolist() == [1]
    assert spurious_units(z, d, t, s, -np.ones(3), n=3).tolist() == []


def test_wrong_use_is_refused(store, tmp_path) -> None:
    basis = neurons(store, SITE)
    with pytest.raises(ConfigError, match="at least 1"):
        remove_spurious([basis], store, ns=(0,))
    with pytest.raises(ConfigError, match="give at least one"):
        remove_spurious([], store)
    origin = Origin(model="toy", site=SITE, store="toy", store_digest="0", target="mlp_out.0",
                    target_width=5)  # fmt: skip
    across = DictionaryBasis(TopK(latents=10, k=2).dictionary(WIDTH, origin))
    with pytest.raises(ConfigError, match="reads resid_post.0 and writes mlp_out.0"):
        remove_spurious([across], store)
    plain = store_of(tmp_path / "plain", domain=3.0, language=0.0)
    with pytest.raises(DataError, match=r"misleads a probe by 5%.*domain=code with language"):
        remove_spurious([neurons(plain, SITE)], plain, ns=(2,))
    few = make_store(tmp_path / "few", rows=300, sites={SITE: WIDTH}, documents=3)
    with pytest.raises(DataError, match="cross in 3 training"):
        remove_spurious([neurons(few, SITE)], few)


def test_the_command_line_prints_it_with_its_warning(workspace, capsys) -> None:
    from interp.sae import TrainConfig, train

    store = store_of(workspace.store("toy"))
    name = "topk-16-k2-s0"
    train(store, SITE, TopK(latents=16, k=2), TrainConfig(tokens=1024, batch=256),
          out=workspace.dictionary("toy", SITE, name))  # fmt: skip
    capsys.readouterr()
    asked = ["evaluate", "toy", SITE, name, "--no-model", "--spurious"]
    assert main(asked) == 0
    assert "never rank" in capsys.readouterr().out
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["removals"]
    assert {each["basis"] for each in found} == {"neurons", "random", name}
