"""The features drawn, against Φ from elsewhere, at every rate and with any number of threads."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import norm

from interp.lab.drawing import Odds
from interp.lab.planted import Planted, PlantedConfig
from interp.lab.tree import Tree

FEATURES = 1200  # more than two blocks of the loop, and not a multiple of one
WORLD = PlantedConfig(features=FEATURES, d_in=8, rank=7, correlation=0.2)


def frequencies(odds: Odds, z: np.ndarray, rows: int) -> np.ndarray:
    """How often each feature is active when every row has the same z."""
    drawn, _, starts = odds.draw(np.tile(z, (rows, 1)), np.random.default_rng(1))
    assert len(starts) == rows + 1
    return np.bincount(drawn, minlength=FEATURES) / rows


@pytest.mark.parametrize("parents", [0, 100])
def test_given_z_each_feature_is_active_as_often_as_phi_says(parents):
    rows = 40_000
    generator = np.random.default_rng(0)
    start = generator.uniform(-4.5, 3, FEATURES).astype(np.float32)
    slope = generator.normal(0, 0.3, (FEATURES, 7)).astype(np.float32)
    z = generator.standard_normal(7, np.float32)
    odds = Odds(start, slope, roots=100, branching=3, parents=parents, exclusive=False)
    wanted = norm.cdf(start.astype(float) + slope.astype(float) @ z)
    wanted[100 : 100 + 3 * parents] *= np.repeat(wanted[:parents], 3)
    error = np.sqrt(wanted * (1 - wanted) / rows) + 1 / rows
    off = (frequencies(odds, z, rows) - wanted) / error
    assert np.abs(off).max() < 5
    assert np.sqrt(np.mean(off**2)) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("rate", [3e-6, 1e-4, 0.2, 0.9999])
def test_rates_finer_than_the_first_bits_come_out(rate):
    planted = Planted(
        dataclasses.replace(WORLD, rank=0, features=8000, first_rate=rate, last_rate=rate)
    )
    rows = 8000
    active = planted.active(rows, np.random.default_rng(0))
    expected = rate * 8000 * rows
    assert len(active.feature) == pytest.approx(
        expected, abs=4 * np.sqrt(expected * (1 - rate)) + 1
    )


def test_a_certain_child_always_follows_its_parent():
    tree = Tree(roots=2, branching=2, depth=1, exclusive=False)
    planted = Planted(
        dataclasses.replace(WORLD, features=6, first_rate=0.5, last_rate=0.5, tree=tree)
    )
    assert planted.drawn_rates[2:].tolist() == [1.0] * 4
    _, codes = planted.draw(2000, seed=0)
    for parent in (0, 1):
        children = codes[:, 2 + 2 * parent : 4 + 2 * parent]
        np.testing.assert_array_equal((children > 0).all(axis=1), codes[:, parent] > 0)


def test_threads_change_no_byte_and_entries_are_in_order():
    tree = Tree(roots=40, branching=3, depth=2)
    planted = Planted(dataclasses.replace(WORLD, tree=tree, spread=0.2))
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(planted.active(1001, np.random.default_rng(5)))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        for field in dataclasses.fields(other):
            np.testing.assert_array_equal(getattr(found[0], field.name), getattr(other, field.name))
    active = found[0]
    for first, end in zip(active.starts, active.starts[1:], strict=False):
        own, above = active.feature[first:end], active.parent[first:end]
        assert (np.diff(own) > 0).all()
        child = above >= 0
        np.testing.assert_array_equal(own[above[child]], (own[child] - 40) // 3)
        np.testing.assert_array_equal(child, (own >= 40) & (own < tree.size()))


def test_rows_are_the_same_with_and_without_their_codes():
    planted = Planted(WORLD)
    rows, codes = planted.draw(100, seed=3, number=2)
    np.testing.assert_array_equal(planted.draw_rows(100, seed=3, number=2), rows)
    np.testing.assert_allclose(
        codes @ planted.directions.numpy() + planted.offset.numpy(), rows, atol=1e-5
    )
