"""Several sites as one: the same rows, each site scaled by itself, shared latents told apart."""

import json

import numpy as np
import pytest
import torch

from interp.errors import ConfigError, DataError, UnknownName
from interp.sae import (
    BatchTopK,
    TopK,
    TrainConfig,
    load_dictionary,
    reconstruction,
    relative_norms,
    save_dictionary,
    train,
    train_many,
)
from interp.sae.base import Part
from interp.sae.scaling import input_scaling
from interp.sae.survey import geometric_median, survey
from interp.store import ActivationStore, ShuffledBatches
from tests.sae.planted import _cosines
from tests.sae.shared import ORIGIN
from tests.stores import make_store

LOUD, QUIET = "resid_post.4", "resid_post.9"
BOTH = f"{LOUD}+{QUIET}"
FEATURES = 32
CONFIG = TrainConfig(tokens=64 * 60, batch=64, lr=1e-2, checkpoint_every=64 * 7)


def views(rows: int = 2400, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Two linear views of the same sparse codes, and the features' directions in each.

    The loud site is 24 wide, 50 times the other and far from the origin; the quiet one 16 wide.
    Features 0..7 are only in the loud one, 8..15 only in the quiet one.
    """
    rng = np.random.default_rng([seed, 201])
    one, two = (rng.standard_normal((FEATURES, width)) for width in (24, 16))
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    two /= np.linalg.norm(two, axis=1, keepdims=True)
    one[8:16] = two[:8] = 0
    codes = (rng.random((rows, FEATURES)) < 0.06) * rng.uniform(0.5, 1.5, (rows, FEATURES))
    values = {LOUD: 50 * (codes @ one) + 7, QUIET: codes @ two}
    return {name: value.astype(np.float32) for name, value in values.items()}, one, two


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ActivationStore:
    values, _, _ = views()
    folder = tmp_path_factory.mktemp("store") / "views"
    return make_store(folder, activations=values, documents=6, dtype="float32")


def test_a_joint_site_gives_its_parts_side_by_side(store) -> None:
    values, _, _ = views()
    whole = np.concatenate([values[LOUD], values[QUIET]], axis=1)
    place = store.site(BOTH)
    assert (place.name, place.width, place.layer) == (BOTH, 40, None)
    assert [part.name for part in store.parts(place)] == [LOUD, QUIET]
    assert store.site("blocks.4.resid_post+blocks.9.resid_post") == place
    np.testing.assert_array_equal(store.read(BOTH, 250, 700), whole[250:700])
    np.testing.assert_array_equal(store.take(BOTH, [900, 3, 400]), whole[[900, 3, 400]])
    for numbers, block in store.blocks(BOTH, split="heldout", size=512):
        np.testing.assert_array_equal(block, whole[numbers])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_batches_of_a_joint_site_are_those_of_its_parts(tmp_path, dtype: str) -> None:
    sinks = np.arange(3000) % 50 == 0
    widths = {LOUD: 5, QUIET: 3}
    small = make_store(tmp_path / "s", sites=widths, rows=3000, sinks=sinks, dtype=dtype)
    how = {"batch": 300, "seed": 4, "pool_rows": 2048}
    both, one, two = (ShuffledBatches(small, name, **how) for name in (BOTH, LOUD, QUIET))
    for _ in range(15):
        np.testing.assert_array_equal(next(both), np.concatenate([next(one), next(two)], axis=1))
    again = ShuffledBatches(small, BOTH, **how)
    again.load_state_dict(both.state_dict())
    np.testing.assert_array_equal(next(again), next(both))


def test_each_site_is_scaled_by_itself(store) -> None:
    data = survey(store, store.site(BOTH), seed=0)
    centre = data.centre()
    halves = data.sample[:, :24], data.sample[:, 24:]
    expected = torch.cat([geometric_median(torch.from_numpy(half)) for half in halves])
    torch.testing.assert_close(centre, expected)
    scaling = input_scaling("mean-norm", data, centre)
    scaled = scaling(torch.from_numpy(data.sample)).double() - scaling(centre[None])
    sizes = [part.norm(dim=1).mean() / part.shape[1] ** 0.5 for part in scaled.split([24, 16], 1)]
    np.testing.assert_allclose(sizes, sizes[0], rtol=1e-5)  # alike, up to one number for all
    white = input_scaling("whitening", data, centre)
    assert white.matrix is not None
    assert torch.all(white.matrix[:24, 24:] == 0)
    assert input_scaling("none", data, centre).matrix is None


@pytest.mark.parametrize("scale", ["mean-norm", "whitening", "per-dim", "none"])
def test_what_is_saved_takes_raw_activations(store, tmp_path, scale: str) -> None:
    """Against the formula in float64, from what is in the folder alone."""
    trained = train(store, BOTH, TopK(latents=48, k=3), CONFIG, out=tmp_path / "d", scale=scale)
    dictionary = load_dictionary(tmp_path / "d")
    assert dictionary.parts == trained.parts
    again = load_dictionary(save_dictionary(dictionary, tmp_path / "again"))
    assert again.parts == dictionary.parts
    x = store.read(BOTH, 0, 300)
    w = {name: t.double().numpy() for name, t in dictionary.state_dict().items()}
    pre = (x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    z = np.where(pre >= np.sort(pre, axis=1)[:, [-3]], np.maximum(pre, 0), 0)
    with torch.no_grad():
        found = dictionary(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, z @ w["W_dec"] + w["b_dec"], rtol=2e-4, atol=2e-3)
    if scale == "mean-norm":  # in scaled coordinates rows have one norm over the concatenation
        factor = np.repeat([part.scale for part in dictionary.parts], [24, 16])
        norms = np.linalg.norm(w["W_dec"] * factor, axis=1)
        np.testing.assert_allclose(norms, norms[0], rtol=1e-4)


def test_relative_norms_are_shares_in_comparable_units() -> None:
    dictionary = TopK(latents=4, k=1).dictionary(5, ORIGIN)
    with pytest.raises(ConfigError, match=r"resid_post.0 is one site"):
        relative_norms(dictionary)
    dictionary.parts = (Part(site="a", width=2, scale=0.5), Part(site="b", width=3, scale=2.0))
    rows = [[6.0, 8, 0, 0, 0], [0, 0, 2, 1, 2], [2, 0, 0, 0.5, 0], [0, 0, 0, 0, 0]]
    dictionary.W_dec.data = torch.tensor(rows)
    found = relative_norms(dictionary)
    torch.testing.assert_close(found[:3], torch.tensor([[1.0, 0], [0, 1], [0.5, 0.5]]))
    assert found[3].isnan().all()


def test_features_of_two_views_are_recovered_and_told_apart(tmp_path) -> None:
    values, one, two = views(rows=12_000)
    store = make_store(tmp_path / "s", activations=values, shard_rows=8192, dtype="float32")
    dictionary = train(
        store,
        BOTH,
        BatchTopK(latents=FEATURES, k=2),
        TrainConfig(tokens=200_000, batch=256, lr=1e-2, seed=1),
        out=tmp_path / "d",
    )
    share = relative_norms(dictionary).numpy()
    directions = dictionary.directions().numpy()
    factor = np.repeat([part.scale for part in dictionary.parts], [24, 16])
    scaled = np.concatenate([50 * one, two], axis=1) * factor
    cosines = _cosines(scaled, directions * factor)
    best = cosines.argmax(axis=1)
    assert cosines.max(axis=1).mean() > 0.97
    assert (share[best[:8], 0] > 0.9).all()  # exclusive to the loud site
    assert (share[best[8:16], 1] > 0.9).all()
    loud, quiet = (np.linalg.norm(part, axis=1) for part in np.split(scaled, [24], axis=1))
    expected = loud / (loud + quiet)
    np.testing.assert_allclose(share[best[16:], 0], expected[16:], atol=0.1)  # shared
    measured = reconstruction(dictionary, store)
    assert set(measured.fve_by_site) == {LOUD, QUIET}
    assert min(measured.fve_by_site.values()) > 0.8


def test_the_fve_of_each_site_is_its_own(store, tmp_path) -> None:
    dictionary = train(store, BOTH, TopK(latents=48, k=3), CONFIG, out=tmp_path / "d")
    rows = store.rows_of("heldout")
    x = store.take(BOTH, rows).astype(np.float64)
    with torch.no_grad():
        error = x - dictionary(torch.from_numpy(x).float()).double().numpy()
    metrics = json.loads((tmp_path / "d" / "metrics.json").read_bytes())["heldout"]
    for name, some in ((LOUD, slice(24)), (QUIET, slice(24, None))):
        expected = 1 - (error[:, some] ** 2).sum() / (len(x) * x[:, some].var(axis=0).sum())
        assert metrics["fve_by_site"][name] == pytest.approx(expected, abs=1e-6)
    whole = 1 - (error**2).sum() / (len(x) * x.var(axis=0).sum())
    assert metrics["fve"] == pytest.approx(whole, abs=1e-6)


class Stop(Exception):
    """Stands for a kill."""


def test_a_broken_crosscoder_continues_to_the_same_bytes(store, tmp_path) -> None:
    def go(name: str, at: int | None) -> dict[str, bytes]:
        def stop(done: int, total: int, note: str = "") -> None:
            if at is not None and done >= at * 64:
                raise Stop

        train(store, BOTH, BatchTopK(latents=48, k=3), CONFIG, out=tmp_path / name, progress=stop)
        return {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())}

    with pytest.raises(Stop):
        go("broken", 33)
    assert go("broken", None) == go("whole", None)


def test_a_sweep_of_crosscoders_gives_what_each_gives_alone(store, workspace, tmp_path) -> None:
    runs = [(TopK(latents=48, k=k), CONFIG) for k in (2, 3)]
    many = train_many(store, BOTH, runs)
    alone = train(store, BOTH, *runs[1], out=tmp_path / "alone")
    assert torch.equal(many[1].W_dec, alone.W_dec)
    assert workspace.dictionary(store.model, BOTH, "topk-48-k3-s0").is_dir()


def test_wrong_joint_sites_are_refused(store, tmp_path) -> None:
    def go(site: str, store: ActivationStore = store) -> None:
        train(store, site, TopK(latents=48, k=3), CONFIG, out=tmp_path / "d")

    with pytest.raises(UnknownName, match=r"unknown site .*'resid_post.5'"):
        go(f"{LOUD}+resid_post.5")
    with pytest.raises(ConfigError, match=r"resid_post.4 is named twice in resid_post.4\+resid"):
        go(f"{LOUD}+blocks.4.resid_post")
    values, _, _ = views()
    values[QUIET][:] = 3
    flat = make_store(tmp_path / "flat", activations=values, documents=6)
    with pytest.raises(DataError, match=r"site resid_post.9 .* is constant"):
        go(BOTH, flat)
    assert not (tmp_path / "d").exists()
