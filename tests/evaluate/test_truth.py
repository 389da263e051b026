"""Truth metrics against counts and loops written out in numpy and scipy."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from interp.errors import DataError
from interp.evaluate.truth import (
    cosines,
    judge,
    matching,
    mcc,
    mmcs,
    pairwise_mcc,
    uniqueness,
)
from interp.sae import Origin, TopK

ORIGIN = Origin(model="planted", site="planted", store="planted", store_digest="0" * 64)


def directions(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def dictionary(rows: np.ndarray, k: int):
    """A TopK dictionary whose encoder and decoder are the given directions."""
    made = TopK(k=k, latents=len(rows)).dictionary(rows.shape[1], ORIGIN)
    with torch.no_grad():
        made.W_dec.copy_(torch.from_numpy(rows))
        made.W_enc.copy_(torch.from_numpy(rows.T.copy()))
    return made.eval().requires_grad_(False)


@settings(deadline=None, max_examples=20)
@given(g=st.integers(1, 6), k=st.integers(1, 6), seed=st.integers(0, 1000))
def test_matching_is_the_best_of_all(g, k, seed):
    truth, found = directions(g, 4, seed), directions(k, 4, seed + 1)
    table = np.array(
        [[abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b) for b in found] for a in truth]
    )
    np.testing.assert_allclose(np.abs(cosines(truth, found)), table, atol=1e-12)
    wide = table if g <= k else table.T
    few, many = wide.shape
    best = max(
        sum(wide[i, choice[i]] for i in range(few)) for choice in permutations(range(many), few)
    )
    assert mcc(truth, found) == pytest.approx(best / few)
    assert mcc(found, truth) == pytest.approx(mcc(truth, found))
    assert mmcs(truth, found) == pytest.approx(table.max(axis=1).mean())
    assert uniqueness(truth, found) == pytest.approx(len(set(table.argmax(axis=0))) / k)


def test_signs_and_lengths_of_directions_do_not_matter():
    truth = directions(5, 8, 0)
    other = -3 * truth[[3, 1, 4, 0, 2]]
    assert mmcs(truth, other) == pytest.approx(1)
    assert mcc(truth, other) == pytest.approx(1)
    assert matching(truth, other)[1].tolist() == [3, 1, 4, 0, 2]
    assert uniqueness(truth, np.repeat(other[:1], 4, axis=0)) == 0.25
    assert pairwise_mcc([truth, other, truth]) == pytest.approx(1)


def test_pairwise_is_the_mean_over_pairs():
    some = [directions(6, 4, seed) for seed in range(3)]
    wanted = (mcc(some[0], some[1]) + mcc(some[0], some[2]) + mcc(some[1], some[2])) / 3
    assert pairwise_mcc(some) == pytest.approx(wanted)


def test_a_perfect_dictionary_scores_one():
    truth = np.linalg.qr(directions(8, 8, 0))[0].astype(np.float32)
    codes = np.zeros((400, 8), np.float32)
    draw = np.random.default_rng(0)
    codes[np.arange(400), draw.integers(0, 8, 400)] = draw.uniform(1, 2, 400)
    found = judge(dictionary(truth, 1), truth, [(codes @ truth, codes)])
    for value in (found.mmcs, found.mcc, found.mcc_of_all, found.uniqueness, found.f1):
        assert value == pytest.approx(1)
    for value in (found.precision, found.recall, found.f1_by_latent, found.shrinkage, found.fve):
        assert value == pytest.approx(1)
    assert (found.l0, found.true_l0, found.rows) == (1, 1, 400)


@pytest.mark.parametrize("latents", [5, 14])
def test_judgement_equals_scikit_learn_over_any_batches(latents):
    """Fewer latents than features, and more; features that never fire are left out."""
    truth = directions(9, 6, 1)
    truth = (truth / np.linalg.norm(truth, axis=1, keepdims=True)).astype(np.float32)
    rows = directions(latents, 6, 2).astype(np.float32)
    draw = np.random.default_rng(3)
    codes = ((draw.random((300, 9)) < 0.3) * draw.uniform(0.5, 1.5, (300, 9))).astype(np.float32)
    codes[:, 8] = 0
    x = codes @ truth
    sae = dictionary(rows / np.linalg.norm(rows, axis=1, keepdims=True), 2)
    found = judge(sae, truth, [(x[:100], codes[:100]), (x[100:], codes[100:])])

    z = sae.encode(torch.from_numpy(x))
    back = sae.decode(z).numpy().astype(np.float64)
    on, fired = codes > 0, z.numpy() > 0
    partner = dict(zip(*(each.tolist() for each in matching(truth, rows)), strict=True))
    scores = [
        f1_score(on[:, g], fired[:, partner[g]], zero_division=0) if g in partner else 0
        for g in range(8)
    ]
    assert found.f1 == pytest.approx(np.mean(scores))
    seen = [g for g in partner if g != 8]
    precision = [precision_score(on[:, g], fired[:, partner[g]], zero_division=0) for g in seen]
    recall = [recall_score(on[:, g], fired[:, partner[g]], zero_division=0) for g in seen]
    assert found.precision == pytest.approx(np.mean(precision))
    assert found.recall == pytest.approx(np.mean(recall))
    nearest = np.abs(cosines(truth, rows)).argmax(axis=0)
    by_latent = [
        f1_score(on[:, g], fired[:, latent], zero_division=0) for latent, g in enumerate(nearest)
    ]
    assert found.f1_by_latent == pytest.approx(np.mean(by_latent))
    wide = x.astype(np.float64)
    variance = np.square(wide - wide.mean(axis=0)).sum()
    assert found.fve == pytest.approx(1 - np.square(wide - back).sum() / variance)
    lengths = np.linalg.norm(wide, axis=1)
    ratio = np.linalg.norm(back, axis=1)[lengths > 0] / lengths[lengths > 0]
    assert found.shrinkage == pytest.approx(ratio.mean(), rel=1e-5)
    assert found.mcc_of_all == pytest.approx(found.mcc * min(9, latents) / 9)
    assert found.l0 == pytest.approx(fired.sum(axis=1).mean())


def test_what_cannot_be_judged_is_refused():
    truth = np.eye(3, dtype=np.float32)
    sae = dictionary(truth, 1)
    with pytest.raises(DataError, match="do not vary"):
        judge(sae, truth, [])
    with pytest.raises(DataError, match="no true feature is on"):
        judge(sae, truth, [(truth, np.zeros_like(truth))])
    with pytest.raises(DataError, match="do not compare"):
        mcc(truth, np.eye(4, dtype=np.float32))
    with pytest.raises(DataError, match="at least two"):
        pairwise_mcc([truth])
