"""Shards on their way to disk: a full one loses no finished shard."""

import errno
import os
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from interp import files
from interp.errors import ResourceError, StoreIncomplete
from interp.store import ActivationStore, shard
from tests.store.test_overflow_and_nan import ROWS, SITE, new_writer, put, random


def fail(error: OSError):
    def failing(*args, **kwargs):
        raise error

    return failing


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
FULL_IN_HDF5 = OSError("Unable to write chunk (errno = 28, error message = 'No space left')")
FAILURES = {
    "dataset": (h5py.Group, "create_dataset", FULL_IN_HDF5),
    "close": (h5py.File, "close", FULL_IN_HDF5),
    "rows": (shard, "write_at", FULL),
    "flush to disk": (os, "fsync", FULL),
    "move": (os, "replace", FULL),
    "quota": (os, "fsync", OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))),
}


@pytest.mark.parametrize("place", FAILURES)
def test_a_full_disk_gives_one_sentence_and_finished_shards_stay(
    tmp_path, monkeypatch, place
) -> None:
    folder = tmp_path / "toy"
    owner, name, error = FAILURES[place]
    with new_writer(folder) as writer:
        put(writer, 0)
        finished = files.sha256(folder / "shard-00000.h5")
        monkeypatch.setattr(owner, name, fail(error))
        sentence = (
            rf"^no space left on the disk of {re.escape(str(folder))}; free some .*continues$"
        )
        with pytest.raises(ResourceError, match=sentence):
            put(writer, 1)
        monkeypatch.undo()
        assert writer.published == {0}
        if place != "move":
            assert not list(folder.glob("*.partial"))  # its space is given back
    assert not (folder / "shard-00001.h5").exists()
    with pytest.raises(StoreIncomplete, match="has 100 of 300 rows"):
        ActivationStore.open(folder)
    with new_writer(folder) as writer:
        assert writer.published == {0}
        assert files.sha256(folder / "shard-00000.h5") == finished
        put(writer, 1)
        put(writer, 2)
        writer.seal()
    assert np.array_equal(ActivationStore.open(folder).read(SITE, 0, ROWS), random())
    assert not list(folder.glob("*.partial"))


def test_a_shard_that_fails_on_its_way_to_the_disk_stops_the_next_call(
    tmp_path, monkeypatch
) -> None:
    def begin(folder: Path, then) -> None:
        with new_writer(folder) as writer:
            put(writer, 0)
            monkeypatch.setattr(os, "replace", fail(FULL))
            put(writer, 1, now=False)
            then(writer)

    calls = {
        "write": lambda writer: put(writer, 2, now=False),
        "seal": lambda writer: writer.seal(),
        "leave": lambda writer: None,
    }
    for name, then in calls.items():
        with pytest.raises(ResourceError, match="no space left"):
            begin(tmp_path / name, then)
        monkeypatch.undo()
        with new_writer(tmp_path / name) as writer:
            assert writer.published == {0}


def test_another_failure_first_lets_the_last_shard_reach_the_disk(tmp_path) -> None:
    def begin() -> None:
        with new_writer(tmp_path / "toy") as writer:
            put(writer, 0, now=False)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin()
    with new_writer(tmp_path / "toy") as writer:
        assert writer.published == {0}


def test_a_full_disk_while_sealing_leaves_a_store_that_can_be_sealed(tmp_path, monkeypatch) -> None:
    with new_writer(tmp_path / "toy") as writer:
        for index in range(3):
            put(writer, index)
        monkeypatch.setattr(os, "replace", fail(FULL))
        with pytest.raises(ResourceError, match="no space left"):
            writer.seal()
        monkeypatch.undo()
    with new_writer(tmp_path / "toy") as writer:
        assert writer.published == {0, 1, 2}
        writer.seal()
    assert ActivationStore.open(tmp_path / "toy").rows == ROWS


def test_a_folder_that_cannot_be_written_gives_one_sentence(tmp_path, monkeypatch) -> None:
    refused = OSError(errno.EACCES, os.strerror(errno.EACCES))
    with new_writer(tmp_path / "toy") as writer:
        monkeypatch.setattr(os, "replace", fail(refused))
        with pytest.raises(ResourceError, match=r"cannot write .*Permission denied; choose a wri"):
            put(writer, 0)
