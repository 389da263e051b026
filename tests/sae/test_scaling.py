"""Input scaling: what it does to activations, and that saved dictionaries need not know of it."""

import numpy as np
import pytest
import torch

from interp.errors import UnknownName
from interp.sae import TrainConfig, architectures, load_dictionary, train
from interp.sae.scaling import Scaling, input_scaling, scaled_spread
from interp.sae.survey import Survey
from interp.sae.trainer import Trainer
from tests.sae.planted import Planted
from tests.sae.shared import CPU, ORIGIN, planted_store, small


def skewed(rows: int = 4000, d_in: int = 12, seed: int = 0) -> np.ndarray:
    """Correlated rows of very different spreads, one dimension constant, far from the origin."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((rows, d_in)) @ rng.standard_normal((d_in, d_in))
    values = mixed * np.logspace(0, 1.2, d_in) + 5
    values[:, 3] = 2.0
    return values.astype(np.float32)


def surveyed(rows: np.ndarray) -> Survey:
    return Survey(len(rows), rows.mean(axis=0, dtype=np.float64), rows)


def scaling(kind: str, rows: np.ndarray) -> Scaling:
    data = surveyed(rows)
    return input_scaling(kind, data, data.centre())


def test_mean_norm_brings_the_mean_distance_from_the_centre_to_root_d() -> None:
    rows = (7 * np.random.default_rng(0).standard_normal((500, 9)) + 4).astype(np.float32)
    data = surveyed(rows)
    found = input_scaling("mean-norm", data, data.centre())
    scaled = found(torch.from_numpy(rows)) - found(data.centre()[None]).float()
    np.testing.assert_allclose(scaled.norm(dim=1).mean(), 3.0, rtol=1e-5)
    assert input_scaling("none", data, data.centre()).scale == 1
    np.testing.assert_allclose(scaled_spread(data, found), rows.var(axis=0).sum() * found.scale**2)


def test_per_dim_and_whitening_bring_spreads_to_one() -> None:
    """Up to the shrinkage towards the mean variance, which leaves a constant direction constant."""
    rows = skewed(8000)
    x = torch.from_numpy(rows)
    spread = scaling("per-dim", rows)(x).numpy().std(axis=0)
    np.testing.assert_allclose(np.delete(spread, 3), 1, atol=0.06)
    assert spread[3] < 1e-3
    white = np.cov(scaling("whitening", rows)(x).numpy(), rowvar=False)
    values = np.linalg.eigvalsh(white)
    assert values[0] < 1e-6
    assert (values[4:] < 1.01).all()
    assert (values[4:] > 0.8).all()
    data = surveyed(rows)
    found = scaling("whitening", rows)
    np.testing.assert_allclose(scaled_spread(data, found), np.trace(white), rtol=1e-3)


def test_no_direction_is_blown_up_beyond_the_shrinkage_and_rows_keep_their_mean_square() -> None:
    rows = skewed()
    for kind in ("per-dim", "whitening"):
        found = scaling(kind, rows)
        gain = torch.linalg.svdvals(found.matrix * found.scale)
        assert gain[0] <= (1000 / rows.var(axis=0).mean()) ** 0.5 * (1 + 1e-6)
        inverse = torch.linalg.inv(found.matrix)
        np.testing.assert_allclose(inverse.norm(), 12**0.5)
        torch.testing.assert_close(found.matrix, found.matrix.T)


def test_an_unknown_scaling_is_named() -> None:
    with pytest.raises(UnknownName, match="did you mean: whitening"):
        scaling("whitenin", skewed())


@pytest.mark.parametrize("kind", sorted(architectures()))
@pytest.mark.parametrize("how", ["per-dim", "whitening"])
def test_what_is_saved_encodes_raw_activations_as_training_did_scaled_ones(
    kind: str, how: str
) -> None:
    """Latents, but for the number s; reconstructions, through the inverse map in numpy."""
    rows = skewed(2000)
    data = surveyed(rows)
    found = input_scaling(how, data, data.centre())
    chosen = small(kind, latents=48, k=3)
    source = Planted(d_in=12, features=8, batch=64)
    source.draw = lambda n, key: rows[key % 30 * 64 :][:n]
    learner = chosen.learner(12, CPU)
    learner.initialise(found(data.centre()[None])[0].float(), torch.Generator().manual_seed(0))
    config = TrainConfig(tokens=64 * 40, batch=64, lr=1e-2)
    variance = scaled_spread(data, found)
    trainer = Trainer(
        learner, source, config, scale=found.scale, variance=variance, matrix=found.matrix
    )
    while not trainer.finished:
        trainer.step()
    inner = trainer.learner.dictionary(chosen.dictionary(12, ORIGIN), 1.0)
    filled = trainer.learner.dictionary(chosen.dictionary(12, ORIGIN), trainer.scale)
    outer = trainer.scaling.fold(filled)
    x = torch.from_numpy(rows[:200])
    with torch.no_grad():
        scaled = trainer.scaling(x)
        z, expected = outer.encode(x), inner.encode(scaled)
        # rounding may push a value over a threshold or past another, hardly ever
        same = ((z > 0) == (expected > 0)).all(dim=1)
        assert same.float().mean() > 0.97
        torch.testing.assert_close(
            z[same] * found.scale, expected[same], rtol=2e-3, atol=2e-3 * float(expected.max())
        )
        whole = (found.matrix * found.scale).numpy()
        back = inner(scaled).numpy().astype(np.float64) @ np.linalg.inv(whole).T
        error = np.abs(outer(x).numpy() - back)[same.numpy()].max(axis=0)
    assert (error <= 2e-3 * rows.std(axis=0).max()).all()


@pytest.mark.parametrize("how", ["per-dim", "whitening"])
def test_a_run_with_a_scaling_is_saved_loaded_and_measured_in_raw_units(how: str, tmp_path) -> None:
    store = planted_store(tmp_path / "store", bias=3.0)
    config = TrainConfig(tokens=64 * 120, batch=64, lr=1e-2, scale=how)
    made = train(store, "resid_post.0", small("topk", latents=48, k=3), config, out=tmp_path / "d")
    x = torch.from_numpy(store.read("resid_post.0", 0, 400))
    again = load_dictionary(tmp_path / "d")
    assert torch.equal(again(x), made(x))
    error = (x - made(x)).square().sum() / (x - x.mean(dim=0)).square().sum()
    assert error < 0.5
