"""MonoScore against its definition, against planted mixtures, and against chance."""

import numpy as np
import pytest
import torch
from scipy.stats import norm, t

from interp.features.embeddings import TokenVectors
from interp.features.firing import Firing
from interp.features.monoscore import MonoScore, Scores, Shifts, scored_documents


def measure(
    z: np.ndarray, embeddings: np.ndarray, documents: np.ndarray, shifts: int = 32, seed: int = 0
) -> Scores:
    """Scores of all units, in uneven blocks."""
    null = Shifts(embeddings, documents.astype(np.int64), shifts=shifts, seed=seed)
    score = MonoScore(z.shape[1], null)
    cuts = [0, 7, len(z) // 3, len(z)]
    for start, stop in zip(cuts[:-1], cuts[1:], strict=True):
        score.add(Firing.of(torch.from_numpy(z[start:stop])), start)
    return score.result(30)


def unit_rows(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("density", [0.5, 0.01])
def test_equals_the_pairwise_definition(density: float) -> None:
    draw = np.random.default_rng(1)
    rows = 4000
    embeddings = unit_rows(draw.normal(size=(rows, 8)) + 0.5)
    documents = np.repeat(np.arange(20), rows // 20)
    z = (draw.gamma(1, size=(rows, 6)) * (draw.random((rows, 6)) < density)).astype(np.float32)
    found = measure(z, embeddings, documents)
    for unit in range(6):
        scaled = (z[:, unit] - z[:, unit].min()) / np.ptp(z[:, unit])  # min-max, as published
        on = scaled > 0
        weights = np.outer(scaled[on], scaled[on]).astype(np.float64)
        alike = (embeddings[on].astype(np.float64)) @ embeddings[on].T.astype(np.float64)
        np.fill_diagonal(weights, 0)
        expected = (weights * alike).sum() / weights.sum()
        assert found.monoscore[unit] == pytest.approx(expected, abs=1e-6)
        assert found.scored_rows[unit] == on.sum()


def test_shifts_stay_within_documents_and_move_every_row() -> None:
    sizes = [1, 2, 5, 30]
    documents = np.repeat(np.arange(4), sizes).astype(np.int64)
    rows = np.arange(len(documents), dtype=np.float32)[:, None]
    blocks = Shifts(rows, documents, shifts=9, seed=3).block(0, len(rows)).numpy()
    np.testing.assert_array_equal(blocks[:, 0], rows[:, 0])
    for shifted in blocks.T[1:].astype(int):
        np.testing.assert_array_equal(np.sort(shifted), np.arange(len(documents)))
        np.testing.assert_array_equal(documents[shifted], documents)
        assert np.all(shifted[1:] != np.arange(1, len(documents)))


def test_score_falls_as_more_features_are_mixed() -> None:
    """Units of k planted features each, k = 1 to 8, at equal density."""
    draw = np.random.default_rng(2)
    features, rows = 40, 30_000
    centres = unit_rows(draw.normal(size=(features, 32)))
    active = draw.integers(0, features, rows)
    embeddings = unit_rows(centres[active] + 0.15 * draw.normal(size=(rows, 32)))
    documents = np.repeat(np.arange(100), rows // 100)
    ks = np.tile(np.arange(1, 9), 12)
    z = np.zeros((rows, len(ks)), np.float32)
    for unit, k in enumerate(ks):
        chosen = draw.choice(features, k, replace=False)
        fires = np.isin(active, chosen) & (draw.random(rows) < 1 / k)
        z[fires, unit] = draw.gamma(2, size=int(fires.sum()))
    found = measure(z, embeddings, documents).monosemanticity
    ranks = np.argsort(np.argsort(found))
    assert np.corrcoef(ranks, np.argsort(np.argsort(ks, kind="stable")))[0, 1] < -0.9
    assert found[ks == 1].min() > found[ks >= 2].max()
    assert found[ks == 1].min() > 0.4


def test_mixing_in_a_second_feature_lowers_the_score_steadily() -> None:
    draw = np.random.default_rng(8)
    rows = 20_000
    centres = unit_rows(draw.normal(size=(20, 32)))
    active = draw.integers(0, 20, rows)
    embeddings = unit_rows(centres[active] + 0.1 * draw.normal(size=(rows, 32)))
    z = np.zeros((rows, 6), np.float32)
    for unit, share in enumerate(np.linspace(0, 1, 6)):
        z[active == 0, unit], z[active == 1, unit] = 1, share
    found = measure(z, embeddings, np.repeat(np.arange(50), 400)).monosemanticity
    assert np.all(np.diff(found) < 0)


def test_chance_units_score_zero() -> None:
    """Activations that know nothing of the context lie within two standard deviations."""
    draw = np.random.default_rng(3)
    rows, units = 20_000, 400
    documents = np.repeat(np.arange(100), rows // 100)
    topic = unit_rows(draw.normal(size=(100, 16)))[documents]
    embeddings = unit_rows(topic + draw.normal(size=(rows, 16)))
    density = 10 ** draw.uniform(-2, -0.5, units)
    z = (draw.gamma(2, size=(rows, units)) * (draw.random((rows, units)) < density)).astype(
        np.float32
    )
    found = measure(z, embeddings, documents)
    within = (np.abs(found.monoscore_z) < 2).mean()
    assert 0.91 <= within <= 0.98
    assert abs(np.median(found.monosemanticity)) < 0.002


def test_the_error_is_that_of_leaving_groups_of_documents_out() -> None:
    draw = np.random.default_rng(6)
    embeddings = unit_rows(draw.normal(size=(600, 8)) + 0.5)
    documents = np.repeat(np.arange(30), 20).astype(np.int64)
    z = (draw.gamma(1, size=(600, 3)) * (draw.random((600, 3)) < 0.3)).astype(np.float32)
    found = measure(z, embeddings, documents)
    group = Shifts(embeddings, documents, shifts=2, seed=0).group
    assert sorted(np.bincount(group[::20])) == [3, 3, 4, 4, 4, 4, 4, 4]
    for unit in range(3):
        left = []
        for number in range(8):
            a = np.where(group == number, 0, z[:, unit]).astype(np.float64)
            pairs = np.outer(a, a)
            np.fill_diagonal(pairs, 0)
            left.append((pairs * (embeddings @ embeddings.T)).sum() / pairs.sum())
        error = np.std(left) * np.sqrt(7) / (1 - found.monoscore_null[unit])
        assert found.monosemanticity_se[unit] == pytest.approx(error, rel=1e-3)


def test_z_has_the_tail_probability_of_students_t() -> None:
    found = measure(
        np.random.default_rng(7).gamma(1, size=(500, 5)).astype(np.float32),
        unit_rows(np.random.default_rng(8).normal(size=(500, 8))),
        np.repeat(np.arange(5), 100),
        shifts=6,
    )
    deviation = (found.monoscore - found.monoscore_null) / found.monoscore_null_sd
    tail = t(df=5, scale=np.sqrt(1 + 1 / 6)).sf(deviation)
    np.testing.assert_allclose(norm.sf(found.monoscore_z), tail, rtol=1e-6)


def test_rare_and_dead_units_have_no_score() -> None:
    draw = np.random.default_rng(4)
    embeddings = unit_rows(draw.normal(size=(500, 8)))
    z = np.zeros((500, 3), np.float32)
    z[:29, 1] = z[:30, 2] = 1
    found = measure(z, embeddings, np.repeat(np.arange(5), 100))
    np.testing.assert_array_equal(np.isnan(found.monosemanticity), [True, True, False])
    np.testing.assert_array_equal(found.scored_rows, [0, 29, 30])


def test_scored_documents_fill_the_budget() -> None:
    sizes = np.full(50, 100)
    chosen = scored_documents(sizes, 1050, 0)
    assert len(chosen) == 10
    np.testing.assert_array_equal(chosen, scored_documents(sizes, 1050, 0))
    assert len(scored_documents(sizes, 5, 0)) == 1
    assert len(scored_documents(sizes, 10**9, 0)) == 50


# -- embeddings ----------------------------------------------------------------------------------


def text(
    words: int = 60, topics: int = 3, rows: int = 12_000, seed: int = 0
) -> tuple[np.ndarray, ...]:
    """Tokens of documents; each document has a topic with its own words, and shared ones."""
    draw = np.random.default_rng(seed)
    documents = np.repeat(np.arange(rows // 100), 100)
    topic = draw.integers(0, topics, rows // 100)[documents]
    shared = draw.random(rows) < 0.5
    own = words + topic * words + draw.integers(0, words, rows)
    return np.where(shared, draw.integers(0, words, rows), own), documents, topic


def test_contexts_of_one_topic_lie_closer() -> None:
    tokens, documents, topic = text()
    found = TokenVectors.fit(tokens, documents, seed=0).contexts(tokens, documents)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    pick = np.random.default_rng(0).choice(len(tokens), 800, replace=False)
    alike = found[pick] @ found[pick].T
    same = topic[pick][:, None] == topic[pick]
    np.fill_diagonal(alike, np.nan)
    assert np.nanmean(alike[same]) > np.nanmean(alike[~same]) + 0.3


def test_a_context_does_not_reach_into_another_document() -> None:
    tokens, documents, _ = text(rows=2000)
    vectors = TokenVectors.fit(tokens, documents, seed=0)
    whole = vectors._sums(tokens, documents, 1 << 16)  # type: ignore[reportPrivateUsage]
    part = slice(300, 400)
    alone = vectors._sums(tokens[part], documents[part], 7)  # type: ignore[reportPrivateUsage]
    np.testing.assert_allclose(whole[part], alone, atol=1e-5)


@pytest.mark.parametrize("tokens", [[0], [3, 3, 3, 3], [0, 1], list(range(40))])
def test_tiny_texts_have_embeddings(tokens: list[int]) -> None:
    ids = np.array(tokens)
    found = TokenVectors.fit(ids, np.zeros(len(ids), int), seed=0).contexts(
        ids, np.zeros(len(ids), int)
    )
    assert np.isfinite(found).all()


def test_embeddings_are_deterministic() -> None:
    tokens, documents, _ = text(words=400)
    one, two = (TokenVectors.fit(tokens, documents, seed=1).weighted for _ in range(2))
    np.testing.assert_array_equal(one, two)
