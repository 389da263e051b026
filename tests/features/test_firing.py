"""Where units fire: the same as all activations, by every way of finding it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.features import RandomDirections
from interp.features.bases import DictionaryBasis
from interp.features.best import Best
from interp.features.codes import Codes
from interp.features.firing import Firer, Firing
from interp.sae import BatchTopK, Dictionary, Origin, TopK


def dictionary(config: TopK | BatchTopK) -> Dictionary:
    """Random weights, and thresholds where there are any."""
    origin = Origin(model="toy", site="resid_post.0", store="toy", store_digest="0" * 64)
    made = config.dictionary(12, origin).requires_grad_(False)
    draw = torch.Generator().manual_seed(0)
    for tensor in (made.W_enc, made.b_enc, made.b_dec):
        tensor.copy_(torch.randn(tensor.shape, generator=draw))
    if isinstance(config, BatchTopK):
        made.threshold.copy_(torch.rand(made.n_latents, generator=draw) * 3)
    return made


@pytest.mark.parametrize("ranges", [[(0, 70)], [(0, 23), (23, 70)], [(50, 70), (5, 6)]])
@pytest.mark.parametrize("config", [TopK(k=5, latents=70), BatchTopK(k=5, latents=70), None])
def test_firing_is_what_encoding_gives(ranges: list[tuple[int, int]], config) -> None:
    x = torch.randn(83, 12, generator=torch.Generator().manual_seed(1))
    basis = DictionaryBasis(dictionary(config)) if config else None
    basis = basis or RandomDirections("resid_post.0", x, n=70, seed=0, densities=(0.3,))
    z = basis.encode(x).numpy()
    assert 0 < np.mean(z > 0) < 0.5
    for (first, last), firing in zip(ranges, Firer(basis, ranges)(x), strict=True):
        np.testing.assert_allclose(firing.dense(), z[:, first:last], atol=1e-5)
        assert (firing.values > 0).all()
        for low, high in zip(firing.offsets[:-1], firing.offsets[1:], strict=True):
            assert np.all(np.diff(firing.places[low:high]) > 0)


def test_what_is_not_a_number_is_not_passed_over() -> None:
    for config in (TopK(k=5, latents=70), BatchTopK(k=5, latents=70)):
        made = dictionary(config)
        made.b_enc[7] = float("nan")
        (firing,) = Firer(DictionaryBasis(made), [(0, 70)])(torch.ones(3, 12))
        assert np.isnan(firing.values).any()


def some(rows: int, units: int, share: float, seed: int) -> np.ndarray:
    """Activations, few of them different, so that there are ties."""
    draw = np.random.default_rng(seed)
    z = draw.integers(1, 9, (rows, units)) * (draw.random((rows, units)) < share)
    return z.astype(np.float32)


@given(st.integers(0, 99), st.integers(1, 40), st.floats(0, 1), st.integers(1, 6))
def test_the_best_are_those_of_a_stable_sort(seed: int, rows: int, share: float, keep: int) -> None:
    z = some(rows, 3, share, seed)
    numbers = np.arange(rows) * 2 + 5
    ranks = np.random.default_rng(seed).permutation(rows)
    by_value, by_rank = Best(3, keep), Best(3, keep)
    for part in np.array_split(np.arange(rows), 3):
        firing = Firing.of(torch.from_numpy(z[part]))
        by_value.offer(numbers[part], None, firing)
        by_rank.offer(numbers[part], ranks[part], firing)
    for best, keys in ((by_value, z), (by_rank, np.broadcast_to(ranks[:, None], z.shape))):
        found, _, values = best.result()
        for unit in range(3):
            on = np.flatnonzero(z[:, unit])
            expected = on[np.argsort(-keys[on, unit], kind="stable")][:keep]
            np.testing.assert_array_equal(found[unit][: len(expected)], numbers[expected])
            np.testing.assert_array_equal(values[unit][: len(expected)], z[expected, unit])
            assert (found[unit][len(expected) :] == -1).all()


def test_kept_codes_are_found_again() -> None:
    z = some(90, 40, 0.03, 0)
    codes = Codes(40)
    for part in np.array_split(np.arange(90), 4):
        assert codes.add(part, Firing.of(torch.from_numpy(z[part])))
    rows, units = np.indices(z.shape).reshape(2, -1)
    np.testing.assert_array_equal(codes.at(rows, units), z.reshape(-1))
    dense = Firing.of(torch.from_numpy(some(90, 40, 0.5, 0)))
    assert not Codes(40).add(np.arange(90), dense)
