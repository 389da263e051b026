"""Activations of other programs become a store: same numbers, checked first, bounded memory."""

import os
import shlex
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from interp.capture.tables import open_table
from interp.cli import main
from interp.errors import ConfigError, DataError, FormatError, StoreError, UnknownName
from interp.files import sha256
from interp.store import ActivationStore, ShuffledBatches, verify
from interp.store import imports as module
from interp.store.imports import ImportConfig, import_activations

ROWS, WIDTH, SITE = 1000, 24, "resid_post.3"
SMALL = ImportConfig(run_rows=90, shard_rows=256, dtype="float32")


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)


def write(path: Path, values: np.ndarray, dtype: torch.dtype = torch.float32) -> Path:
    """One file of each kind, by its ending."""
    tensor = torch.from_numpy(values).to(dtype)
    if path.suffix == ".npy":
        np.save(path, tensor.numpy())
    elif path.suffix == ".pt":
        torch.save(tensor, path)
    else:
        save_file({"acts": tensor}, path)
    return path


def imported(path: Path, out: Path, config: ImportConfig = SMALL, **more) -> ActivationStore:
    return import_activations(
        open_table(path), model="toy", site=SITE, out=out, config=config, **more
    )


TYPES = ["float16", "float32", "float64", "bfloat16"]
KINDS = [(kind, dtype) for kind in (".npy", ".pt", ".safetensors") for dtype in TYPES]
KINDS.remove((".npy", "bfloat16"))  # numpy has none


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_every_number_is_there(values, tmp_path, kind, dtype) -> None:
    source = write(tmp_path / f"acts{kind}", values, getattr(torch, dtype))
    store = imported(source, tmp_path / "out")
    exact = torch.from_numpy(values).to(getattr(torch, dtype)).float().numpy()
    assert np.array_equal(store.read(SITE, 0, ROWS), exact)
    assert verify(store.path) == []
    assert store.sites[SITE].layer == 3
    assert len(store.manifest.shards) == 4
    assert store.manifest.provenance["parents"] == {source.name: sha256(source)}
    assert next(ShuffledBatches(store, SITE, batch=64, seed=0)).shape == (64, WIDTH)


def test_whole_runs_are_held_out_by_the_seed(values, tmp_path) -> None:
    source = write(tmp_path / "acts.npy", values)
    found = {}
    for number, seed in enumerate((0, 0, 1)):
        config = ImportConfig(run_rows=90, heldout=0.25, seed=seed)
        store = imported(source, tmp_path / f"out-{number}", config)
        held = store.heldout
        runs = [set(held[start : start + 90].tolist()) for start in range(0, ROWS, 90)]
        assert all(len(run) == 1 for run in runs)
        assert sum(True in run for run in runs) == 3
        assert np.array_equal(found.setdefault(seed, held), held)
        assert store.positions.tolist() == [row % 90 for row in range(ROWS)]
    assert not np.array_equal(found[0], found[1])
    none = imported(source, tmp_path / "none", ImportConfig(heldout=0.0))
    assert not none.heldout.any()
    few = imported(source, tmp_path / "few", ImportConfig(run_rows=5000))
    assert few.heldout.sum() == 100
    one = imported(write(tmp_path / "one.npy", values[:1]), tmp_path / "one")
    assert not one.heldout.any()


def test_token_ids_come_along_and_must_fit(values, tmp_path) -> None:
    source = write(tmp_path / "acts.npy", values)
    np.save(tmp_path / "ids.npy", np.arange(ROWS))
    store = imported(source, tmp_path / "out", tokens=open_table(tmp_path / "ids.npy"))
    assert store.tokens.tolist() == list(range(ROWS))
    assert list(store.manifest.provenance["parents"]) == ["acts.npy", "ids.npy"]
    for wrong, what in (
        (np.arange(ROWS - 1), "of shape"),
        (np.zeros(ROWS), "holds float64"),
        (np.arange(ROWS) - 1, "no token ids"),
    ):
        np.save(tmp_path / "wrong.npy", wrong)
        with pytest.raises(DataError, match=what):
            imported(source, tmp_path / "other", tokens=open_table(tmp_path / "wrong.npy"))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 700])
@pytest.mark.parametrize("kind", [".npy", ".safetensors"])
def test_what_is_no_number_is_refused_by_its_row(values, tmp_path, bad, row, kind) -> None:
    values[row, 5] = bad
    source = write(tmp_path / f"acts{kind}", values)
    with pytest.raises(DataError, match=rf"NaN or infinity, first in row {row}; leave such rows"):
        imported(source, tmp_path / "out")


def test_large_numbers_change_the_type_or_are_cut_and_counted(values, tmp_path) -> None:
    config = ImportConfig(shard_rows=256)
    values[3, 3] = 1e6
    store = imported(write(tmp_path / "first.npy", values), tmp_path / "first", config)
    assert store.manifest.dtypes == {SITE: "bfloat16"}
    assert store.manifest.overflow == {}
    values[3, 3], values[900, 3], values[901, 4] = 0, 1e6, -1e9
    store = imported(write(tmp_path / "later.npy", values), tmp_path / "later", config)
    assert store.manifest.dtypes == {SITE: "float16"}
    assert store.manifest.overflow == {SITE: 2}
    assert store.read(SITE, 900, 902)[[0, 1], [3, 4]].tolist() == [65504, -65504]
    assert verify(store.path) == []


def test_an_interrupted_import_is_completed_and_a_finished_one_is_kept(
    values, tmp_path, monkeypatch
) -> None:
    source = write(tmp_path / "acts.npy", values)
    whole = imported(source, tmp_path / "whole")
    real, calls = module.StoreWriter.write_shard, []

    def failing(self, index, **columns) -> None:
        calls.append(index)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(self, index, **columns)

    monkeypatch.setattr(module.StoreWriter, "write_shard", failing)
    with pytest.raises(KeyboardInterrupt):
        imported(source, tmp_path / "out")
    store = imported(source, tmp_path / "out")
    assert calls == [0, 1, 2, 2, 3]
    assert store.digest == whole.digest
    elsewhere = tmp_path / "moved.npy"
    shutil.copy(source, elsewhere)
    assert imported(elsewhere, tmp_path / "out").digest == whole.digest
    with pytest.raises(StoreError, match="holds another store; choose another --out"):
        imported(source, tmp_path / "out", ImportConfig())


MEMORY = """
import pathlib, sys, tracemalloc
import numpy as np
from interp.capture.tables import open_table
from interp.store.imports import ImportConfig, import_activations

folder, peaks = pathlib.Path(sys.argv[1]), []
for rows in (20_000, 200_000):
    made = np.lib.format.open_memmap(folder / "acts.npy", "w+", np.float32, (rows, 64))
    made[:] = 1
    del made
    tracemalloc.start()
    table, config = open_table(folder / "acts.npy"), ImportConfig(shard_rows=8192)
    import_activations(table, model="m", site="s", out=folder / str(rows), config=config)
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
assert peaks[1] < 1.1 * peaks[0], peaks
"""


def test_memory_does_not_grow_with_the_rows(tmp_path) -> None:
    run_alone(MEMORY, str(tmp_path))


def run_alone(code: str, *arguments: str) -> None:
    """In a process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# -- files that are not what they should be -----------------------------------------------------


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_nothing_in_a_file_is_executed(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"acts": Evil()}, "evil.pt")
    np.save("evil.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match=r"could run anything when loaded; save the activations"):
        open_table("evil.pt")
    with pytest.raises(FormatError, match=r"no readable \.npy file"):
        open_table("evil.npy")
    assert not Path("executed").exists()


@pytest.mark.parametrize("kind", [".npy", ".pt", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 60, -1, -1000])
def test_damaged_files_are_refused(values, tmp_path, kind, keep) -> None:
    source = write(tmp_path / f"acts{kind}", values)
    data = source.read_bytes()
    source.write_bytes(data[:keep])
    with pytest.raises(FormatError, match=r"is no readable .* file \(.+\); make it again"):
        open_table(source)


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"3",
        b"{}" * 9,
        b'{"a":3}',
        b'{"a":{}}',
        b'{"a":{"dtype":"F32","shape":[9,9],"data_offsets":[0,324]}}',
        b'{"a":{"dtype":"F32","shape":[-1,-4],"data_offsets":[0,16]}}',
        b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[-16,0]}}',
        b'{"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":"x","data_offsets":[0,16]}}',
    ],
    ids=lambda header: header.decode(),
)
def test_a_hostile_header_is_refused(tmp_path, header) -> None:
    path = tmp_path / "acts.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    with pytest.raises(FormatError, match="no readable .safetensors file"):
        open_table(path)


def test_several_arrays_need_a_name(values, tmp_path) -> None:
    both = {"a": torch.from_numpy(values), "b": torch.from_numpy(values[:, :3].copy())}
    save_file(both, tmp_path / "two.safetensors")
    torch.save(both, tmp_path / "two.pt")
    for name in ("two.safetensors", "two.pt"):
        assert open_table(tmp_path / name, "b").values.shape == (ROWS, 3)
        for key in ("", "c"):
            with pytest.raises(UnknownName, match=r"a, b\. Name one with --key\.$"):
                open_table(tmp_path / name, key)
    with pytest.raises(ConfigError, match="leave out --key"):
        open_table(write(tmp_path / "one.npy", values), "a")
    with pytest.raises(ConfigError, match="there is no file"):
        open_table(tmp_path / "none.npy")
    with pytest.raises(ConfigError, match="is none of .npy"):
        open_table(tmp_path / "acts.csv")
    for wrong in (values[0], values[None], values[:0], values.astype(np.int32), np.float32(3)):
        np.save(tmp_path / "wrong.npy", wrong)
        with pytest.raises(DataError, match=r"wrong\.npy holds"):
            imported(tmp_path / "wrong.npy", tmp_path / "out")


# -- the command --------------------------------------------------------------------------------


def test_the_command_imports_and_verify_says_how_to_mend_it(
    values, workspace, tmp_path, capsys
) -> None:
    source = write(tmp_path / "my acts.npy", values)
    flags = ["--out", "mine", "--shard-rows", "256", "--seed", "4", "--dtype", "bfloat16"]
    assert main(["import", str(source), "toy", SITE, *flags]) == 0
    assert "1,000 rows of 24 numbers at resid_post.3, stored as bfloat16" in capsys.readouterr().out
    store = ActivationStore.open(workspace.store("mine"))
    train = ["train", "mine", SITE, "--tokens", "512", "--batch", "64"]
    assert main([*train, "--latents", "32", "--k", "4"]) == 0
    (store.path / "shard-00002.h5").unlink()
    capsys.readouterr()
    assert main(["verify", "mine"]) == 1
    (command,) = [line for line in capsys.readouterr().out.splitlines() if line[:2] == "  "]
    assert main(shlex.split(command)[1:]) == 0
    assert ActivationStore.open(store.path).digest == store.digest
    assert main(["verify", "mine"]) == 0


def test_the_library_part_knows_no_torch() -> None:
    run_alone("import sys, interp.store.imports; assert 'torch' not in sys.modules")
