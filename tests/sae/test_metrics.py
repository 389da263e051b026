"""Reconstruction against numbers computed another way."""

import numpy as np
import pytest
import torch

from interp.errors import DataError, UnknownName
from interp.sae import TopK, reconstruction
from tests.sae.shared import ORIGIN, planted_store


def identity(width: int, centre: np.ndarray | None = None):
    """A dictionary of ± unit axes that reconstructs perfectly; with k = 1, only the largest."""
    dictionary = TopK(latents=2 * width, k=width).dictionary(width, ORIGIN)
    axes = torch.cat([torch.eye(width), -torch.eye(width)])
    with torch.no_grad():
        dictionary.W_dec.copy_(axes)
        dictionary.W_enc.copy_(axes.T)
        if centre is not None:
            dictionary.b_dec.copy_(torch.from_numpy(centre))
    return dictionary.requires_grad_(False)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return planted_store(tmp_path_factory.mktemp("store") / "planted", bias=5.0, sinks=9)


def test_a_perfect_dictionary_explains_everything(store) -> None:
    found = reconstruction(identity(16), store, "resid_post.0")
    assert found.fve == pytest.approx(1, abs=1e-9)
    assert found.mse == pytest.approx(0, abs=1e-9)
    assert found.l0 == 16
    assert (found.rows, found.split) == (len(store.rows_of("heldout")), "heldout")
    assert found.dead + sum(found.density_histogram) == found.latents == 32


@pytest.mark.parametrize("split", ["heldout", "train", "all"])
def test_figures_equal_a_direct_computation(store, split) -> None:
    rows = store.rows_of(split)
    x = store.take("resid_post.0", rows).astype(np.float64)
    dictionary = TopK(latents=40, k=3).dictionary(16, ORIGIN).requires_grad_(False)
    g = torch.Generator().manual_seed(1)
    for parameter in dictionary.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=g) * 0.3)
    z = dictionary.encode(torch.from_numpy(x).float()).double().numpy()
    error = x - dictionary(torch.from_numpy(x).float()).double().numpy()
    found = reconstruction(dictionary, store, "resid_post.0", split)
    assert found.mse == pytest.approx((error**2).sum(axis=1).mean(), rel=1e-5)
    fve = 1 - (error**2).sum() / ((x - x.mean(axis=0)) ** 2).sum()
    assert found.fve == pytest.approx(fve, rel=1e-5)
    assert found.l0 == pytest.approx((z > 0).sum(axis=1).mean())
    assert found.dead == (~(z > 0).any(axis=0)).sum()
    assert found.dead_fraction == found.dead / 40
    density = (z > 0).mean(axis=0)
    expected, _ = np.histogram(np.log10(density[density > 0]), found.density_edges)
    assert found.density_histogram == tuple(expected)


def test_predicting_the_mean_explains_nothing_however_far_it_lies_from_zero(store) -> None:
    """Uncentred variants give nearly 1 here; variants blind to a constant error give too much."""
    x = store.take("resid_post.0", store.rows_of("heldout")).astype(np.float64)
    dictionary = identity(16, x.mean(axis=0).astype(np.float32))
    with torch.no_grad():
        dictionary.b_enc.fill_(-1e9)
    assert reconstruction(dictionary, store).fve == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        dictionary.b_dec.add_(1)
    variance = ((x - x.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert reconstruction(dictionary, store).fve == pytest.approx(-16 / variance, rel=1e-4)
    assert reconstruction(dictionary, store).dead_fraction == 1


def test_wrong_use_is_refused(store, tmp_path) -> None:
    with pytest.raises(UnknownName, match="resid_post.0"):
        reconstruction(identity(16), store, "resid_post.7")
    with pytest.raises(DataError, match="16 wide|8 wide"):
        reconstruction(identity(8), store, "resid_post.0")
    none = planted_store(tmp_path / "none", heldout_rows=0)
    with pytest.raises(DataError, match="0 usable heldout rows"):
        reconstruction(identity(16), none)
