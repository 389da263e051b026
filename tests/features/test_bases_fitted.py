"""Classical baselines against linear algebra written out, and planted sources they must find."""

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from interp.cli import main
from interp.errors import ConfigError, DataError, FormatError, UnknownName
from interp.evaluate.truth import mcc
from interp.features import (
    FitConfig,
    extract,
    find_bases,
    fit_basis,
    fitted,
    load_basis,
    save_basis,
)
from interp.features.fitted import KINDS, random_rotation
from interp.files import read_json, write_json
from interp.store import ActivationStore
from tests.stores import make_store

SITE, WIDTH, ROWS = "resid_post.0", 8, 1200
SIGNED = ("pca", "ica", "dictlearn")


def planted(sign: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows made of sparse sources along known directions, and the directions."""
    draw = np.random.default_rng(5)
    directions = draw.normal(size=(WIDTH, WIDTH)) if sign else draw.random((WIDTH, WIDTH)) ** 4
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    sources = draw.exponential(size=(ROWS, WIDTH)) * (draw.random((ROWS, WIDTH)) < 0.2)
    if sign:
        sources *= draw.choice([-1, 1], size=sources.shape)
    return sources @ directions + 3 * sign, directions


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[bool, ActivationStore]:
    folder = tmp_path_factory.mktemp("stores")
    return {
        sign: make_store(
            folder / f"toy{int(sign)}", activations={SITE: planted(sign)[0]}, dtype="float32"
        )
        for sign in (True, False)
    }


@pytest.fixture(scope="module")
def fits(stores):
    config = FitConfig(k=3, rows=500, iterations=60)
    return {kind: fit_basis(stores[kind != "nmf"], SITE, kind, config) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_units_are_the_k_largest_codes_split_by_sign(kind, fits, stores) -> None:
    basis = fits[kind].basis
    x = torch.from_numpy(stores[kind != "nmf"].read(SITE, 0, 64))
    z = basis.encode(x)
    assert z.shape == (64, basis.n_units)
    assert basis.n_units == WIDTH * (2 if kind in SIGNED else 1)
    assert float(z.min()) >= 0
    assert int((z > 0).sum(dim=1).max()) <= 3
    codes = basis.codes(x).numpy()
    found = z.numpy().reshape(64, WIDTH, 2) if basis.signed else z.numpy()[..., None]
    joined = found[..., 0] - found[..., 1] if basis.signed else found[..., 0]
    for row, code in zip(joined, codes, strict=True):
        expected = np.where(np.isin(np.arange(WIDTH), np.argsort(-np.abs(code))[:3]), code, 0)
        np.testing.assert_allclose(row, expected, atol=1e-6)
    by_hand = basis.mean.numpy() + joined @ basis.components.numpy()
    np.testing.assert_allclose(basis.decode(z).numpy(), by_hand, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(basis.directions().numpy(), axis=1), 1, atol=1e-5)
    np.testing.assert_allclose((z @ basis.directions() + basis.mean).numpy(), by_hand, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_row_depends_on_the_rows_beside_it(kind, fits, stores) -> None:
    basis = fits[kind].basis
    x = torch.from_numpy(stores[kind != "nmf"].read(SITE, 0, 40))
    alone = torch.cat([basis.encode(row[None]) for row in x])
    torch.testing.assert_close(basis.encode(x), alone, atol=1e-5, rtol=1e-5)


def test_pca_is_the_eigenvectors_of_the_sample_s_covariance(fits, stores) -> None:
    store = stores[True]
    fit = fit_basis(store, SITE, "pca", FitConfig(k=2, rows=10**6))
    x = store.take(SITE, store.rows_of("train")).astype(np.float64)
    assert fit.rows == len(x)
    values, vectors = np.linalg.eigh(np.cov(x.T))
    overlap = np.abs(vectors[:, ::-1].T @ fit.basis.components.numpy().T)
    np.testing.assert_allclose(overlap, np.eye(WIDTH), atol=1e-3)
    np.testing.assert_allclose(fit.basis.mean, x.mean(axis=0), atol=1e-5)
    whole = fit.basis.keep(WIDTH)
    back = whole.decode(whole.encode(torch.from_numpy(x).float()))
    np.testing.assert_allclose(back, x, atol=1e-4)


def test_ica_finds_planted_sources_where_pca_does_not(fits, stores) -> None:
    _, directions = planted(True)
    ica, pca = (
        fit_basis(stores[True], SITE, kind, FitConfig(rows=10**6)) for kind in ("ica", "pca")
    )
    assert ica.converged
    assert mcc(directions, ica.basis.components.numpy()) > 0.98
    assert mcc(directions, pca.basis.components.numpy()) < 0.9
    whole, x = ica.basis.keep(WIDTH), torch.from_numpy(stores[True].read(SITE, 0, 50))
    torch.testing.assert_close(whole.decode(whole.encode(x)), x, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("sweeps", "mean", "most"), [(fitted.SWEEPS, 1e-3, 3e-2), (5000, 1e-5, 1e-4)]
)
def test_nmf_codes_approach_non_negative_least_squares(
    sweeps, mean, most, fits, stores, monkeypatch
) -> None:
    monkeypatch.setattr(fitted, "SWEEPS", sweeps)
    basis = fits["nmf"].basis
    assert float(basis.components.min()) >= 0
    rows = stores[False].read(SITE, 0, 200).astype(np.float64)
    rows = rows[np.linalg.norm(rows, axis=1) > 0]
    components = basis.components.numpy().astype(np.float64)
    codes = basis.codes(torch.from_numpy(rows).float()).numpy()
    assert codes.min() >= 0
    least = np.array([nnls(components.T, row)[1] for row in rows])
    left = np.linalg.norm(rows - codes @ components, axis=1)
    beyond = (left - least) / np.linalg.norm(rows, axis=1)
    assert beyond.mean() < mean
    assert beyond.max() < most


def test_dictionary_learning_finds_planted_atoms(stores) -> None:
    _, directions = planted(True)
    fit = fit_basis(stores[True], SITE, "dictlearn", FitConfig(iterations=60))
    assert mcc(directions, fit.basis.components.numpy()) > 0.95


def test_matching_pursuit_leaves_a_residual_at_right_angles(fits, stores) -> None:
    basis = fits["dictlearn"].basis
    x = torch.from_numpy(stores[True].read(SITE, 0, 30))
    z = basis.encode(x)
    residual = (x - basis.decode(z)).numpy()
    used = (z.numpy().reshape(30, WIDTH, 2) > 0).any(axis=2)
    assert np.abs((residual @ basis.components.numpy().T)[used]).max() < 1e-3


def test_the_random_rotation_is_orthonormal_seeded_and_complete() -> None:
    mean = torch.arange(16.0)
    basis = random_rotation(SITE, mean, 4, seed=1)
    torch.testing.assert_close(basis.components @ basis.components.T, torch.eye(16))
    assert torch.equal(random_rotation(SITE, mean, 4, seed=1).components, basis.components)
    assert not torch.equal(random_rotation(SITE, mean, 4, seed=2).components, basis.components)
    x = torch.randn(5, 16)
    whole = basis.keep(16)
    torch.testing.assert_close(whole.decode(whole.encode(x)), x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_basis_is_the_same_and_the_same_command_gives_the_same_bytes(
    kind, fits, stores, tmp_path
) -> None:
    fit = fits[kind]
    folder = save_basis(fit, tmp_path / fit.basis.name)
    back = load_basis(folder)
    assert type(back) is KINDS[kind]
    assert (back.fingerprint, back.name) == (fit.basis.fingerprint, f"{kind}-8-k3-s0")
    again = fit_basis(stores[kind != "nmf"], SITE, kind, FitConfig(k=3, rows=500, iterations=60))
    other = save_basis(again, tmp_path / "again")
    for file in ("config.json", "weights.safetensors"):
        assert (folder / file).read_bytes() == (other / file).read_bytes()
    config = read_json(folder / "config.json")
    assert config["provenance"]["parents"] == {f"toy{int(kind != 'nmf')}": fit_digest(stores, kind)}
    assert (config["rows"], config["provenance"]["config"]["components"]) == (500, None)


def fit_digest(stores, kind: str) -> str:
    return stores[kind != "nmf"].digest


def test_only_training_rows_without_sinks_are_seen(tmp_path) -> None:
    values, _ = planted(True)
    plain = make_store(tmp_path / "toy", activations={SITE: values}, dtype="float32")
    sinks = np.zeros(ROWS, bool)
    sinks[:7] = True
    changed = np.where((plain.heldout | sinks)[:, None], 1e4, values)
    marked = make_store(tmp_path / "b", activations={SITE: changed}, sinks=sinks, dtype="float32")
    basis = fit_basis(marked, SITE, "pca", FitConfig(rows=10**6)).basis
    kept = values[~(plain.heldout | sinks)]
    np.testing.assert_allclose(basis.mean, kept.mean(axis=0), atol=1e-4)


def test_the_command_line_fits_and_extract_finds_what_it_fitted(workspace, capsys) -> None:
    store = make_store(workspace.store("toy"), activations={SITE: planted(True)[0]})
    assert main(["fit", "toy", SITE, "--basis", "pca,ica", "--k", "2", "--json"]) == 0
    names = [basis.name for basis in find_bases(store, SITE, None, workspace)]
    assert names == ["neurons", "random", "ica-8-k2-s0", "pca-8-k2-s0"]
    (pca,) = find_bases(store, SITE, ["pca-8-k2-s0"], workspace)
    units = extract([pca], store, workspace=workspace)
    table = units.table("pca-8-k2-s0")
    assert (table.kind, table.signed, table.n_units) == ("pca", True, 16)
    z = pca.encode(torch.from_numpy(store.read(SITE, 0, store.rows)))
    np.testing.assert_allclose(table.columns["density"], (z > 0).float().mean(dim=0), atol=1e-6)


def test_wrong_use_is_one_sentence(stores, tmp_path) -> None:
    store = stores[True]
    with pytest.raises(UnknownName, match="pac"):
        fit_basis(store, SITE, "pac")
    with pytest.raises(ConfigError, match="nmf needs a site without negative activations"):
        fit_basis(store, SITE, "nmf")
    with pytest.raises(ConfigError, match="at most 8 components"):
        fit_basis(store, SITE, "ica", FitConfig(components=9))
    with pytest.raises(ConfigError, match="vary in 4 directions only"):
        fit_basis(store, SITE, "pca", FitConfig(rows=5, components=6))
    with pytest.raises(ConfigError, match="need as many rows"):
        fit_basis(stores[False], SITE, "nmf", FitConfig(rows=5))
    with pytest.raises(ConfigError, match="rows must be at least 1"):
        FitConfig(rows=0)
    flat = make_store(tmp_path / "flat", activations={SITE: np.ones((60, 4))})
    with pytest.raises(DataError, match="is constant"):
        fit_basis(flat, SITE, "pca")
    nmf = fit_basis(stores[False], SITE, "nmf", FitConfig(iterations=1)).basis
    with pytest.raises(DataError, match="below zero"):
        nmf.encode(-torch.ones(1, WIDTH))
    with pytest.raises(DataError, match="8 wide, but the rows are 3"):
        nmf.encode(torch.ones(1, 3))


def test_damaged_files_are_refused(fits, tmp_path) -> None:
    folder = save_basis(fits["pca"], tmp_path / "pca")
    good = read_json(folder / "config.json")
    for change, words in (
        ({"format": "x"}, "no fitted basis"),
        ({"version": 9}, "has version 9"),
        ({"state": "writing"}, "half written"),
        ({"kind": "pac"}, "malformed"),
        ({"kind": "nmf"}, "malformed"),
    ):
        write_json(folder / "config.json", {**good, **change})
        with pytest.raises(FormatError, match=words):
            load_basis(folder)
    write_json(folder / "config.json", good)
    (folder / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(FormatError, match="damaged"):
        load_basis(folder)
