"""Every activation of a basis: kept exactly, found again, refused where it cannot be right."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import sparse

from interp.cli import main
from interp.errors import ConfigError, DataError, FormatError
from interp.features import ExtractConfig, UnitActivations, extract, neurons, places
from interp.features.activations import activations_path
from interp.features.bases import DictionaryBasis
from interp.sae import save_dictionary
from interp.store import ActivationStore
from interp.workspace import Workspace
from tests.features.test_extract import SITE, SMALL, a_dictionary, activations
from tests.stores import make_store

NAME = "topk-40-k1-s0"


def made(space: Workspace) -> ActivationStore:
    """A store with sinks and the tables of a dictionary and of dense neurons."""
    draw = np.random.default_rng(5)
    sinks = np.zeros(1000, bool)
    sinks[::97] = True
    x = draw.normal(size=(1000, 12)).astype(np.float16)
    store = make_store(space.store("toy"), activations={SITE: x}, sinks=sinks, documents=9)
    save_dictionary(a_dictionary(k=1), space.dictionary("toy", SITE, NAME))
    bases = [neurons(store, SITE), DictionaryBasis(a_dictionary(k=1), NAME)]
    extract(bases, store, config=SMALL, workspace=space, activations=True)
    return store


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace.at(tmp_path_factory.mktemp("space"))


@pytest.fixture(scope="module")
def store(space: Workspace) -> ActivationStore:
    return made(space)


@pytest.fixture
def kept(space: Workspace, store: ActivationStore) -> UnitActivations:
    return UnitActivations.open(activations_path(space.units("toy", SITE, NAME)))


def everything(store: ActivationStore) -> np.ndarray:
    """All activations, computed directly."""
    import torch

    z = a_dictionary(k=1).encode(torch.from_numpy(store.read(SITE, 0, store.rows))).numpy()
    z[store.sinks] = 0
    return z


def test_every_activation_is_there(kept: UnitActivations, store: ActivationStore) -> None:
    z = everything(store)
    with h5py.File(kept.path) as file:
        value, row, offsets = (np.asarray(file[name]) for name in ("value", "row", "offsets"))
    arrays = value.astype(np.float32), row, offsets
    whole = sparse.csr_array(arrays, shape=(kept.n_units, kept.rows)).toarray().T
    np.testing.assert_allclose(whole, z, rtol=1e-3)
    for unit in range(kept.n_units):
        rows, values = kept.of(unit)
        np.testing.assert_array_equal(rows, np.flatnonzero(z[:, unit]))
        np.testing.assert_allclose(values, z[rows, unit], rtol=1e-3)


def test_a_scratch_file_read_in_small_steps_gives_the_same(
    store: ActivationStore, kept: UnitActivations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interp.features.spill.CHUNK", 7)
    monkeypatch.setattr("interp.features.activations.CHUNK", 11)
    monkeypatch.setattr("interp.features.parts.UNITS", 17)
    basis = DictionaryBasis(a_dictionary(k=1), NAME)
    extract([basis], store, config=SMALL, out=tmp_path, activations=True)
    again = UnitActivations.open(activations_path(tmp_path / f"{NAME}.h5"))
    for unit in range(40):
        for one, two in zip(kept.of(unit), again.of(unit), strict=True):
            np.testing.assert_array_equal(one, two)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{NAME}.activations.hdf5",
        f"{NAME}.h5",
    ]


def test_places_are_those_of_a_scan_of_the_text(
    kept: UnitActivations, store: ActivationStore
) -> None:
    z = everything(store)
    unit = int((z > 0).sum(axis=0).argmax())
    wanted = re.compile(store.vocabulary.text([3]).strip())
    expected = []
    for row in np.flatnonzero(z[:, unit]):
        near = np.arange(max(row - 2, 0), min(row + 2, store.rows))
        near = near[store.document_index[near] == store.document_index[row]]
        if wanted.search(store.vocabulary.text(store.tokens[near].tolist())):
            expected.append(row)
    assert 0 < len(expected) < (z[:, unit] > 0).sum()
    found = list(places(kept, store, unit, pattern=wanted.pattern, before=2, after=1))
    assert [place.row for place in found] == expected
    assert found[0].token == store.vocabulary.text([int(store.tokens[found[0].row])])
    strongest = [p.value for p in places(kept, store, unit, strongest_first=True)]
    assert strongest == sorted(strongest, reverse=True)
    assert len(strongest) == (z[:, unit] > 0).sum()


def test_dense_bases_are_not_kept(space: Workspace, store: ActivationStore) -> None:
    assert not activations_path(space.units("toy", SITE, "neurons")).exists()
    with pytest.raises(FormatError, match="--activations"):
        UnitActivations.open(activations_path(space.units("toy", SITE, "neurons")))
    assert np.mean(activations(store, "neurons") > 0) > 0.4


def test_find_lists_places(space: Workspace, store: ActivationStore, capsys) -> None:
    unit = int((everything(store) > 0).sum(axis=0).argmax())
    address = f"toy/{SITE}/{NAME}/{unit}"
    common = ["--workspace", str(space.root)]
    assert main(["find", address, "--rows", "3", *common]) == 0
    shown = capsys.readouterr().out
    assert "⟦" in shown
    assert "3 listed" in shown
    assert main(["find", address, "--pattern", "(", *common]) == 2
    assert "no regular expression" in capsys.readouterr().err
    assert main(["find", f"toy/{SITE}/{NAME}/40", *common]) == 1
    assert "0 to 39" in capsys.readouterr().err


def test_what_cannot_be_right_is_refused(
    kept: UnitActivations, store: ActivationStore, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="regular expression"):
        places(kept, store, 0, pattern="[")
    other = make_store(tmp_path / "other")
    with pytest.raises(DataError, match="not extracted from"):
        places(kept, other, 0)
    copy = tmp_path / "copy.hdf5"

    def broken(change) -> UnitActivations:
        copy.write_bytes(kept.path.read_bytes())
        with h5py.File(copy, "a") as file:
            change(file)
        return UnitActivations.open(copy)

    def reach_out(file: h5py.File) -> None:
        file["row"][:] = 1 << 20

    def overlap(file: h5py.File) -> None:
        file["offsets"][:] = np.arange(41)[::-1]

    def lie(file: h5py.File) -> None:
        file.attrs["n_units"] = 1 << 50

    def link(file: h5py.File) -> None:
        del file["value"]
        file["value"] = h5py.ExternalLink("/etc/other.h5", "x")

    for change in (reach_out, overlap, link):
        with pytest.raises(FormatError, match="malformed"):
            broken(change).of(3)
    with pytest.raises(FormatError, match="malformed"):
        broken(lie)


def test_a_finished_table_without_activations_is_made_again_with_them(
    store: ActivationStore, tmp_path: Path
) -> None:
    config = ExtractConfig(contexts=3, reservoir=16, shifts=4, batch=100)
    basis = DictionaryBasis(a_dictionary(k=1), NAME)
    (table,) = extract([basis], store, config=config, out=tmp_path).tables
    before = table.path.read_bytes()
    extract([basis], store, config=config, out=tmp_path, activations=True)
    assert table.path.read_bytes() == before
    assert UnitActivations.open(activations_path(table.path)).key == table.key
