"""Comparing units: against counting, numpy's correlations, and planted densities."""

import numpy as np
import pytest
import torch

from interp.errors import DataError
from interp.features import Basis
from interp.lab.matching import SparseNeurons, best_correlations, superiority
from interp.lab.results.towards_monosemanticity import density_modes


def test_superiority_is_the_share_of_pairs_won():
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 6, 30).astype(float), draw.integers(1, 7, 20).astype(float)
    won = np.mean([(x > y) + (x == y) / 2 for x in a for y in b])
    assert superiority(np.append(a, np.nan), b) == pytest.approx(won)
    assert superiority(a, b) + superiority(b, a) == pytest.approx(1)
    assert superiority(a + 10, b) == 1
    with pytest.raises(DataError, match="no unit has this score"):
        superiority(np.array([np.nan]), b)


def test_best_correlations_are_those_of_all_rows_together():
    draw = np.random.default_rng(1)
    a = draw.standard_normal((300, 4)).astype(np.float32)
    b = draw.standard_normal((300, 6)).astype(np.float32) + 5
    b[:, 2] -= 3 * a[:, 1]
    b[:, 5] += 2 * a[:, 3]
    a[:, 0] = 7.0  # never varies
    blocks = zip(*(torch.from_numpy(each).split(70) for each in (a, b)), strict=True)
    found = best_correlations(blocks)
    wanted = np.corrcoef(a[:, 1:].T, b.T)[:3, 3:].max(axis=1)
    np.testing.assert_allclose(found[1:], wanted, atol=1e-5)
    assert np.isnan(found[0])
    assert wanted[0] < 0.5 < wanted[2]  # a negative correlation is none
    with pytest.raises(DataError, match="no rows"):
        best_correlations([])


def test_sparse_neurons_have_the_densities_they_were_given():
    sample = torch.rand(1000, 3, generator=torch.Generator().manual_seed(0))
    basis = SparseNeurons("mlp_post.0", sample, np.array([0.5, 0.02, 0.001]))
    z = basis.encode(sample)
    assert (z > 0).sum(dim=0).tolist() == [500, 20, 1]
    assert torch.equal(z[z > 0], sample[z > 0])
    assert isinstance(basis, Basis)
    assert torch.equal(basis.directions(), torch.eye(3))
    other = SparseNeurons("mlp_post.0", sample, np.array([0.5, 0.02, 0.01]))
    assert other.fingerprint != basis.fingerprint


def test_modes_of_planted_densities():
    draw = np.random.default_rng(2)
    low, high = 10 ** draw.normal(-4.5, 0.3, 400), 10 ** draw.normal(-2, 0.3, 300)
    assert density_modes(np.concatenate([low, high]))[0] == 2
    count, curve = density_modes(high)
    assert count == 1
    peak = max(curve, key=lambda point: point[1])
    assert peak[0] == pytest.approx(-2, abs=0.15)
    # A few stray units are no mode.
    assert density_modes(np.append(high, [1e-5, 2e-5]))[0] == 1
