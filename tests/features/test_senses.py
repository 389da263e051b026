"""The parts of senses that have a second way to be computed."""

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from interp.features.clustering import adjusted_rand, average_linkage
from interp.features.senses import _distances


@pytest.mark.parametrize("seed", range(20))
def test_the_rand_index_is_that_of_scikit_learn(seed) -> None:
    draw = np.random.default_rng(seed)
    n = int(draw.integers(2, 60))
    one = draw.integers(0, draw.integers(1, n + 1), n)
    other = np.where(draw.random(n) < 0.7, one, draw.integers(0, n, n))
    assert adjusted_rand(one, other) == pytest.approx(adjusted_rand_score(one, other), abs=1e-12)


def test_equal_and_trivial_clusterings_agree() -> None:
    for labels in (np.zeros(5, int), np.arange(5), np.array([0, 0, 1, 1, 2])):
        assert adjusted_rand(labels, labels) == 1


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_those_of_scikit_learn(seed) -> None:
    draw = np.random.default_rng(seed)
    vectors = [draw.normal(size=(40, 6)) for _ in range(2)]
    token, around = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in vectors)
    distance = _distances(token, around)
    expected = np.clip(1 - token @ token.T, 0, None) * np.clip(1 - around @ around.T, 0, None)
    np.fill_diagonal(expected, 0)
    assert np.allclose(distance, expected, atol=1e-12)
    model = AgglomerativeClustering(
        n_clusters=None, distance_threshold=0.5, metric="precomputed", linkage="average"
    )
    labels = model.fit(distance).labels_
    assert 1 < labels.max() + 1 < 40
    assert adjusted_rand_score(labels, average_linkage(distance, 0.5)) == 1
