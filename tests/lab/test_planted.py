"""Planted rows: rates, magnitudes, correlation, forest and stream against what was asked."""

import dataclasses

import numpy as np
import pytest
import torch

from interp.errors import ConfigError, DataError
from interp.lab.directions import _gradient, spread_out
from interp.lab.planted import SYNTH_SAE_BENCH_V2, Planted, PlantedBatches, PlantedConfig
from interp.lab.tree import Tree

SMALL = PlantedConfig(features=40, d_in=16, first_rate=0.1, last_rate=0.1)


def test_rows_are_the_sums_of_their_codes():
    planted = Planted(dataclasses.replace(SMALL, bias=2.0))
    rows, codes = planted.draw(50, seed=1)
    directions = planted.directions.double().numpy()
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, atol=1e-6)
    wanted = codes @ directions + planted.offset.numpy()
    np.testing.assert_allclose(rows, wanted, atol=1e-5)
    assert np.linalg.norm(planted.offset) == pytest.approx(2, rel=1e-5)


def test_a_row_without_features_is_the_offset():
    planted = Planted(dataclasses.replace(SMALL, first_rate=1e-9, last_rate=1e-9, bias=1.0))
    rows, codes = planted.draw(5, seed=0)
    assert not codes.any()
    np.testing.assert_array_equal(rows, np.tile(planted.offset.numpy(), (5, 1)))


def test_rates_follow_their_laws():
    n = 5
    linear = dataclasses.replace(SMALL, features=n, rates="linear", first_rate=0.5, last_rate=0.1)
    np.testing.assert_allclose(Planted(linear).rates, [0.5, 0.4, 0.3, 0.2, 0.1], rtol=1e-6)
    zipf = Planted(dataclasses.replace(linear, rates="zipf", exponent=2.0)).rates.double().numpy()
    law = np.arange(1, n + 1) ** -2.0
    np.testing.assert_allclose((zipf - 0.1) / 0.4, (law - law[-1]) / (1 - law[-1]), atol=1e-6)
    np.testing.assert_allclose(Planted(SMALL).rates, 0.1)


@pytest.mark.parametrize("rank", [0, 5])
def test_rates_and_magnitudes_are_kept_whatever_the_correlation(rank):
    config = dataclasses.replace(
        SMALL,
        rates="linear",
        first_rate=0.3,
        last_rate=0.02,
        rank=rank,
        correlation=0.3,
        first_magnitude=4.0,
        last_magnitude=2.0,
        spread=0.2,
    )
    planted = Planted(config)
    _, codes = planted.draw(40_000, seed=0)
    active = codes > 0
    np.testing.assert_allclose(active.mean(axis=0), planted.rates, atol=0.012)
    means = codes.sum(axis=0) / active.sum(axis=0)
    np.testing.assert_allclose(means, np.linspace(4, 2, 40), atol=0.06)
    first = codes[active[:, 0], 0]
    assert first.std() == pytest.approx(0.2, rel=0.05)


def test_correlated_features_agree_with_the_gaussian_copula():
    """P(both) against normals thresholded in numpy, for the pair of strongest correlation."""
    config = dataclasses.replace(
        SMALL, features=6, rank=3, correlation=0.5, first_rate=0.2, last_rate=0.2
    )
    planted = Planted(config)
    start, slope = (tensor.double().numpy() for tensor in planted._correlation)
    own = np.sqrt(1 / (1 + (slope**2).sum(axis=1)))  # back from Φ's argument to F and own
    factor = slope * own[:, None]
    correlation = factor @ factor.T
    np.fill_diagonal(correlation, 1)
    i, j = np.unravel_index(np.abs(correlation - np.eye(6)).argmax(), (6, 6))
    draw = np.random.default_rng(0).multivariate_normal(
        np.zeros(2), correlation[np.ix_([i, j], [i, j])], 400_000
    )
    wanted = (draw > 0.8416212335729143).all(axis=1).mean()  # the 80 % point
    _, codes = planted.draw(100_000, seed=3)
    found = ((codes[:, i] > 0) & (codes[:, j] > 0)).mean()
    assert abs(correlation[i, j]) > 0.3
    assert found == pytest.approx(wanted, abs=0.005)
    assert abs(found - 0.04) > 0.01


def test_a_forest_gates_excludes_and_scales():
    tree = Tree(roots=2, branching=3, depth=2, compensate=False)
    config = dataclasses.replace(
        SMALL, features=30, first_rate=0.6, last_rate=0.6, spread=0.3, tree=tree
    )
    planted = Planted(config)
    assert tree.levels() == [(0, 2, 2), (2, 8, 6)]
    assert tree.size() == 26
    _, codes = planted.draw(20_000, seed=0)
    on = codes > 0
    for parent, child, count in tree.levels():
        for p in range(count):
            own = slice(child + 3 * p, child + 3 * p + 3)
            assert not (on[:, own] & ~on[:, [parent + p]]).any()
            assert on[:, own].sum(axis=1).max() == 1
            shares = on[:, own].mean(axis=0)
            np.testing.assert_allclose(shares, shares.mean(), atol=0.015)
    # one of three children stays where any was drawn, chosen evenly: 0.6 (1 - 0.4³) / 3
    np.testing.assert_allclose(on[:, 2:8].mean(), 0.6 * (1 - 0.4**3) / 3, atol=0.005)
    # a child's value is its own draw times its parent's value over the mean
    both = on[:, 2]
    slope = np.corrcoef(codes[both, 0], codes[both, 2])[0, 1]
    assert slope > 0.5
    free = np.corrcoef(codes[on[:, 0] & on[:, 27], 0], codes[on[:, 0] & on[:, 27], 27])[0, 1]
    assert abs(free) < 0.05


def test_a_forest_without_scaling_or_exclusion():
    tree = Tree(roots=1, branching=2, depth=1, exclusive=False, scaled=False, compensate=False)
    planted = Planted(dataclasses.replace(SMALL, first_rate=0.5, last_rate=0.5, tree=tree))
    _, codes = planted.draw(20_000, seed=0)
    on = codes > 0
    assert not (on[:, 1:3] & ~on[:, [0]]).any()
    assert (on[:, 1] & on[:, 2]).mean() == pytest.approx(0.125, abs=0.01)
    both = on[:, 1]
    assert abs(np.corrcoef(codes[both, 0], codes[both, 1])[0, 1]) < 0.05


def test_compensation_brings_rates_back():
    tree = Tree(roots=4, branching=2, depth=1)
    config = dataclasses.replace(
        SMALL, rates="linear", first_rate=0.3, last_rate=0.01, tree=tree, features=200
    )
    planted = Planted(config)
    rates = planted.rates.double().numpy()
    drawn = planted.drawn_rates.double().numpy()
    wanted = rates[4] / rates[0] * (1 + rates[5] / rates[0])
    assert drawn[4] == pytest.approx(min(wanted, 1), rel=1e-5)
    low = dataclasses.replace(config, tree=dataclasses.replace(tree, exclusive=False))
    _, codes = Planted(low).draw(40_000, seed=0)
    np.testing.assert_allclose((codes > 0).mean(axis=0)[:12], rates[:12], atol=0.012)


@pytest.mark.parametrize("coherence", [0.0, 0.3])
def test_the_gradient_is_that_of_the_sum_over_pairs(coherence):
    rows = torch.randn(12, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    rows = (rows / rows.norm(dim=1, keepdim=True)).requires_grad_()
    pairs = ((rows @ rows.T - coherence) * (1 - torch.eye(12, dtype=torch.float64))).square()
    pairs.sum().backward()
    torch.testing.assert_close(_gradient(rows.detach(), coherence), rows.grad)


def test_directions_approach_the_wanted_coherence():
    draw = torch.Generator().manual_seed(0)
    rows = torch.randn(30, 16, generator=draw)

    def off(directions: torch.Tensor) -> np.ndarray:
        gram = (directions @ directions.T).numpy()
        return gram[~np.eye(30, dtype=bool)]

    random = spread_out(rows, 0.0, steps=0, lr=0.01)
    apart = spread_out(rows, 0.0, steps=300, lr=0.001)
    close = spread_out(rows, 0.4, steps=400, lr=0.002)
    np.testing.assert_allclose(apart.norm(dim=1), 1, atol=1e-5)
    # Σ cos² cannot go below n²/d - n (Welch); random rows are at about n²/d
    bound = (30 * 30 / 16 - 30) / (30 * 29)
    assert np.mean(off(random) ** 2) > 1.5 * bound
    assert bound - 1e-6 <= np.mean(off(apart) ** 2) < 1.2 * bound
    assert np.abs(off(apart)).max() < 0.8
    assert off(close).mean() == pytest.approx(0.4, abs=0.04)
    with pytest.raises(DataError, match="one line"):
        spread_out(rows, 0.0, steps=300, lr=0.01)


def test_a_stream_can_start_anywhere_and_never_repeats():
    planted = Planted(SMALL)
    batches = PlantedBatches(planted, batch=8, seed=5)
    rows = [next(batches) for _ in range(3)]
    assert not np.array_equal(rows[0], rows[1])
    again = PlantedBatches(Planted(SMALL), batch=8, seed=5)
    again.load_state_dict({"done": 2})
    np.testing.assert_array_equal(next(again), rows[2])
    assert again.state_dict() == batches.state_dict() == {"done": 3}
    other = PlantedBatches(planted, batch=8, seed=6)
    assert not np.array_equal(next(other), rows[0])


def test_synth_sae_bench_has_about_34_active_features():
    planted = Planted(dataclasses.replace(SYNTH_SAE_BENCH_V2, spread_steps=0))
    _, codes = planted.draw(256, seed=0)
    assert codes.shape == (256, 16_384)
    assert 32 < (codes > 0).sum(axis=1).mean() < 37
    assert planted.config.tree is not None
    assert planted.config.tree.size() == 10_880


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"features": 0}, "features and d_in"),
        ({"first_rate": 0.0, "last_rate": 0.0}, "first_rate must be above 0"),
        ({"first_rate": 0.1, "last_rate": 0.2}, "rises"),
        ({"first_magnitude": 0.0}, "magnitudes"),
        ({"rank": -1}, "must not be negative"),
        ({"coherence": 1.0}, "coherence"),
        ({"tree": Tree(roots=20, branching=4)}, "100 features but there are 40"),
    ],
)
def test_impossible_worlds_are_refused(change, text):
    with pytest.raises(ConfigError, match=text):
        dataclasses.replace(SMALL, **change)


def test_impossible_forests_are_refused():
    with pytest.raises(ConfigError, match="2 children a parent"):
        Tree(branching=1)
