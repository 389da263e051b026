"""Unit tables and addresses: what is written is read, what is broken is refused in words."""

import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from interp.errors import ConfigError, DataError, FormatError, UnknownName
from interp.features.address import Address
from interp.features.table import UnitTable
from interp.store import ActivationStore
from interp.workspace import Workspace
from tests.tables import make_table


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a store and one table."""
    workspace = Workspace.at(tmp_path_factory.mktemp("space"))
    make_table(workspace)
    return workspace


@pytest.fixture
def path(space: Workspace, tmp_path: Path) -> Path:
    """A copy of the table that a test may break."""
    return Path(shutil.copy(space.units("toy", "resid_post.0", "neurons"), tmp_path / "copy.h5"))


def test_address_round_trip_and_refusals() -> None:
    address = Address.parse("org/model@12/resid_post.9/batchtopk-4096-k16-s0/17")
    assert (address.model, address.basis, address.index) == (
        "org/model@12",
        "batchtopk-4096-k16-s0",
        17,
    )
    assert Address.parse(str(address)) == address
    for wrong in ("", "a/b/c", "a/b/c/-1", "a/b/c/x", "a//c/1", "a/b/c/1e3", "a/b/c/²"):
        with pytest.raises(ConfigError):
            Address.parse(wrong)


def test_a_table_reads_back_and_agrees_with_its_store(space: Workspace) -> None:
    table = UnitTable.open(space.units("toy", "resid_post.0", "neurons"))
    store = ActivationStore.open(space.store(table.store))
    assert table.store_digest == store.digest
    assert table.provenance["job"] == "extract"
    assert str(table.address(3)) == "toy/resid_post.0/neurons/3"
    assert [table.unit_name(i) for i in (0, 1, 6)] == ["0+", "0-", "3+"]
    assert table.columns["dead"][0] == 1
    assert table.columns["rare"][1] == 1
    unit = 5
    counts, edges = table.histogram(unit)
    assert counts.sum() == table.columns["active"][unit]
    assert len(edges) == len(counts) + 1
    strata = table.contexts(unit)
    assert [stratum.name for stratum in strata] == table.strata
    assert strata[0].values[0] == pytest.approx(table.columns["max"][unit])
    for stratum in strata:
        assert np.all(np.diff(stratum.values) <= 0)
        np.testing.assert_allclose(stratum.windows[:, table.before], stratum.values, rtol=1e-3)
    assert all(len(stratum.rows) == 0 for stratum in table.contexts(0))
    assert sum(table.domains(unit).values()) == pytest.approx(1, abs=1e-5)
    up, down = table.promoted(unit), table.suppressed(unit)
    assert up[0][1] > up[-1][1] > down[-1][1] > down[0][1]


def test_what_a_table_does_not_have_is_said(space: Workspace, tmp_path: Path) -> None:
    table = UnitTable.open(space.units("toy", "resid_post.0", "neurons"))
    with pytest.raises(FormatError, match="0 to 23"):
        table.contexts(24)
    with pytest.raises(UnknownName, match="density"):
        table.column("densty")
    bare = make_table(tmp_path, logits=False)
    assert not bare.has_logits
    with pytest.raises(DataError, match="logits"):
        bare.promoted(0)
    with pytest.raises(FormatError, match="does not exist"):
        UnitTable.open(tmp_path / "none.h5")


def test_foreign_and_newer_files_are_refused(path: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.h5"
    text.write_text("hello")
    with pytest.raises(FormatError, match="no readable HDF5"):
        UnitTable.open(text)
    with h5py.File(path, "a") as file:
        file.attrs["version"] = 99
    with pytest.raises(FormatError, match="version 99"):
        UnitTable.open(path)
    with h5py.File(path, "a") as file:
        file.attrs["format"] = "other"
    with pytest.raises(FormatError, match="no unit table"):
        UnitTable.open(path)


@pytest.mark.parametrize("lie", [0, -3, 1 << 40])
def test_a_lie_about_the_number_of_units_is_refused(path: Path, lie: int) -> None:
    with h5py.File(path, "a") as file:
        file.attrs["n_units"] = lie
    with pytest.raises(FormatError, match="malformed"):
        UnitTable.open(path)


def test_hostile_datasets_are_refused(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["contexts/row"], file["histogram/counts"], file["domains/share"]
        file["contexts/row"] = h5py.ExternalLink("/etc/other.h5", "x")
        file.create_dataset("histogram/counts", (24, 8), "u4", chunks=(24, 8), compression="gzip")
        file.create_dataset("domains/share", (24, 3), h5py.string_dtype())
        file.create_dataset("columns/huge", (1 << 40,), "f4", chunks=(1024,))
    table = UnitTable.open(path)
    for read in (table.contexts, table.histogram, table.domains):
        with pytest.raises(FormatError, match="malformed"):
            read(1)
    with pytest.raises(FormatError, match="malformed"):
        _ = table.columns


def test_contexts_outside_the_store_are_refused(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["contexts/row"][5, 0, 0] = 1 << 50
    with pytest.raises(FormatError, match="outside its store"):
        UnitTable.open(path).contexts(5)


def test_browsing_needs_no_torch() -> None:
    code = (
        "import sys, interp.features, interp.features.table, interp.features.address;"
        "interp.features.UnitTable, interp.features.Address;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
