"""Rules and purity, compiled for many units, against plain ones written unit by unit."""

import math
from collections import Counter
from itertools import chain

import numpy as np
import pytest

from interp.features.labels import Labels
from interp.features.purity import LEAST as LEAST_IN_STRATUM
from interp.features.purity import SHARES, purity
from interp.features.rules import LEAST, PRICE, WIDTH, Rules
from interp.features.sample import Sample, Silent
from interp.features.traits import Traits
from interp.store import ActivationStore
from tests.stores import make_store

ROWS, UNITS, KEPT, TOP = 3000, 120, 48, 12


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    draw = np.random.default_rng(3)
    words = [f" {'W' if n % 7 == 0 else 'w'}{n}{'.' if n % 5 == 0 else ''}" for n in range(60)]
    return make_store(
        tmp_path_factory.mktemp("rules") / "toy",
        activations={"mlp_post.0": np.zeros((ROWS, 1), np.float16)},
        tokens=np.minimum(draw.geometric(0.06, ROWS) - 1, 59),
        vocabulary=[*words, "<bos>"],
        bos=60,
        documents=30,
    )


@pytest.fixture(scope="module")
def sample(store: ActivationStore) -> Sample:
    """Units of a few tokens, of a domain, of nothing; some rare, some with more rows than kept."""
    draw = np.random.default_rng(4)
    ranks = draw.permutation(ROWS)
    order = np.argsort(-ranks)
    domain = store.document_index % 3
    rows, top = np.full((UNITS, KEPT), -1, np.int64), np.full((UNITS, TOP), -1, np.int64)
    values, top_values = np.zeros(rows.shape, np.float32), np.zeros(top.shape, np.float32)
    active, edges = np.zeros(UNITS, np.int64), np.zeros((UNITS, 3))
    for unit in range(UNITS):
        tokens = draw.choice(30, int(draw.integers(1, 12)), replace=False)
        kinds = (np.isin(store.tokens, tokens), domain == unit % 3, np.ones(ROWS, bool))
        on = np.flatnonzero(kinds[unit % 3])
        on = draw.choice(on, min(len(on), int(draw.integers(1, 300))), replace=False)
        z = np.zeros(ROWS, np.float32)
        z[on] = np.ceil(draw.gamma(2, size=len(on)) * 4)  # with ties
        kept = order[z[order] > 0][:KEPT]
        best = np.argsort(-z, kind="stable")[: min(TOP, len(on))]
        rows[unit, : len(kept)], values[unit, : len(kept)] = kept, z[kept]
        top[unit, : len(best)], top_values[unit, : len(best)] = best, z[best]
        active[unit], edges[unit] = len(on), np.quantile(z[on], [0.99, 0.9, 0.5])
    ranked = np.where(rows >= 0, ranks[rows], 0)
    return Sample(rows, ranked, values, top, top_values, edges, active, active >= 20)


def a_silent(store: ActivationStore) -> Silent:
    return Silent(store, np.random.default_rng(4).permutation(ROWS))


def test_rules_equal_plain_ones(store: ActivationStore, sample: Sample) -> None:
    traits, silent = Traits(store, Labels(store, 0)), a_silent(store)
    rules = Rules(store, traits, silent, 0)
    words, columns = rules.scores(sample)
    halves = np.random.default_rng([0, 0x4A1F]).permutation(len(store.documents)) % 2
    first = halves[store.document_index] == 0
    member = traits.member(np.arange(ROWS))
    found = 0
    for unit in range(UNITS):
        active = [int(row) for row in sample.rows[unit] if row >= 0]
        full = sample.active[unit] > len(active)
        lowest = min(sample.ranks[unit][sample.rows[unit] >= 0])
        ranks = np.random.default_rng(4).permutation(ROWS)
        pool = [
            int(row)
            for row in silent.rows
            if row not in active and not (full and ranks[row] <= lowest)
        ]
        learn, judge = ([[r for r in of if first[r] == h] for of in (active, pool)] for h in (1, 0))
        text = bytes(words[unit]).rstrip(b"\0").decode()
        if not sample.enough[unit] or min(map(len, chain(learn, judge))) < LEAST:
            assert not text
            assert all(np.isnan(column[unit]) for column in columns.values())
            continue
        found += 1
        whole, one = plain_rules(traits, member, *learn)
        said = whole[1].encode()
        assert text == whole[1] if len(said) <= WIDTH else text.endswith("…")
        for name, (_, _, holds) in (("rule", whole), ("rule_one", one)):
            hits, false = ([holds(row) for row in of] for of in judge)
            recall, alarm = np.mean(hits), np.mean(false)
            assert columns[f"{name}_auroc"][unit] == pytest.approx((1 + recall - alarm) / 2)
            variance = 0.0
            for each in (hits, false):
                p = (sum(each) + 1) / (len(each) + 2)
                variance += p * (1 - p) / len(each)
            assert columns[f"{name}_auroc_se"][unit] == pytest.approx(math.sqrt(variance) / 2)
            if name == "rule":
                assert columns["rule_recall"][unit] == pytest.approx(recall)
                expected = recall / (recall + alarm) if recall + alarm else math.nan
                assert columns["rule_precision"][unit] == pytest.approx(expected, nan_ok=True)
    assert found > 60


def plain_rules(traits: Traits, member: np.ndarray, active: list[int], silent: list[int]):
    """(gain, text, predicate) of the best rule and of the best with one member."""
    gains = [
        np.mean(member[active, c]) - np.mean(member[silent, c]) for c in range(member.shape[1])
    ]
    best = max(range(len(gains)), key=lambda c: (gains[c], -c))
    start = (gains[best] - PRICE, traits.classes[best], lambda row: bool(member[row, best]))
    whole = one = start
    for trait in traits.many:
        on, off = (Counter(trait.codes[rows].tolist()) for rows in (active, silent))
        gain = {
            value: count / len(active) - off[value] / len(silent)
            for value, count in on.items()
            if count >= 2
        }
        ranked = sorted((v for v in gain if gain[v] > PRICE), key=lambda v: (-gain[v], v))
        for size in (trait.most, 1):
            values = ranked[:size]
            if not values:
                continue
            total = sum(gain[value] - PRICE for value in values)
            text = f"{trait.name} {', '.join(map(trait.words, values))}"
            rule = (total, text, lambda row, v=frozenset(values), c=trait.codes: int(c[row]) in v)
            if size == 1:
                one = rule if total > one[0] + 1e-12 else one
            else:
                whole = rule if total > whole[0] + 1e-12 else whole
    return whole, one


def test_purity_equals_a_plain_one(store: ActivationStore, sample: Sample) -> None:
    codes = store.tokens.astype(np.int64)
    groups = Labels(store, 0).group[store.document_index]
    strata, whole, error, ratio = purity(sample, codes, groups)
    found = 0
    for unit in range(UNITS):
        own = dict(zip(sample.rows[unit].tolist(), sample.values[unit].tolist(), strict=True))
        rows = [row for row in own if row >= 0]
        more = zip(sample.top_rows[unit].tolist(), sample.top_values[unit].tolist(), strict=True)
        known = {row: value for row, value in chain(own.items(), more) if row >= 0}
        strong, middle, weak = sample.edges[unit]
        parts: list[list[int]] = [[], [], [], []]
        for row, value in known.items():
            parts[
                0 if value > strong else 1 if value > middle else 2 if value > weak else 3
            ].append(int(codes[row]))
        top = parts[0] + parts[1]
        if not sample.enough[unit] or len(top) < LEAST_IN_STRATUM:
            assert np.isnan(strata[unit]).all()
            assert np.isnan([whole[unit], error[unit], ratio[unit]]).all()
            continue
        found += 1
        counts = Counter(top)
        meaning = min(counts, key=lambda code: (-counts[code], code))
        expected = [
            np.mean(np.array(part) == meaning) if len(part) >= LEAST_IN_STRATUM else math.nan
            for part in parts
        ]
        np.testing.assert_allclose(strata[unit], expected, rtol=1e-6)
        hit = codes[rows] == meaning
        assert whole[unit] == pytest.approx(hit.mean())
        group = groups[rows]
        left = [hit[group != g].mean() for g in np.unique(group)]
        if len(left) > 1:
            spread = math.sqrt((len(left) - 1) * np.var(left))
            assert error[unit] == pytest.approx(spread, abs=1e-12)
        lower = [p for p in expected[2:] if not math.isnan(p)]
        expected_ratio = min(lower) / np.mean(np.array(top) == meaning) if lower else math.nan
        assert ratio[unit] == pytest.approx(expected_ratio, nan_ok=True, rel=1e-6)
    assert found > 60
    assert len(SHARES) == 4
