"""A capture killed anywhere, and run again, ends in the same bytes as one that was left alone."""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from interp import capture, files
from interp.errors import StoreError, StoreIncomplete
from interp.store import ActivationStore, verify
from tests.capture.tiny import (
    SETTINGS,
    SITES,
    bytes_of,
    learn_tokenizer,
    lengthen,
    tiny_model,
    write_texts,
)
from tests.forks import FORKS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")

SHARDS = 9


def job(folder: Path, out: Path) -> ActivationStore:
    """The capture that is killed; its first shard sends a site over to bfloat16."""
    model = tiny_model(folder / "tokenizer.json")
    lengthen(model, " cat", 1e6)
    settings = SETTINGS | {"shard_rows": 80, "dtype": "float16"}
    return capture(model, SITES, str(folder / "texts"), out=out, **settings)


def killed_at(folder: Path, out: Path, step: int, when: str) -> None:
    """In a child: the job, killed before or after the given file is moved into place."""
    real, moved = os.replace, iter(range(1000))

    def replace(*args) -> None:
        last = next(moved) == step
        if last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        real(*args)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = replace
    job(folder, out)


def slow(folder: Path, out: Path) -> None:
    """In a child: the job with a pause at each flush, and Ctrl-C as the command line takes it."""
    real = os.fsync

    def fsync(descriptor: int) -> None:
        time.sleep(0.02)
        real(descriptor)

    os.fsync = fsync
    try:
        job(folder, out)
    except KeyboardInterrupt:
        sys.exit(130)


def started(target, *args):
    child = FORKS.Process(target=target, args=args)
    child.start()
    return child


def ended(child) -> int | None:
    child.join(30)
    return child.exitcode


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kill")
    learn_tokenizer(write_texts(folder / "texts"), folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="module")
def whole(folder) -> dict[str, str]:
    """The bytes of a capture that was left alone."""
    store = job(folder, folder / "whole")
    assert len(store.manifest.shards) == SHARDS
    assert set(store.manifest.dtypes.values()) == {"bfloat16", "float16"}
    assert store.sinks.any()
    return bytes_of(store.path)


def test_a_child_that_is_not_killed_writes_the_same_bytes(folder, whole, tmp_path) -> None:
    assert ended(started(job, folder, tmp_path / "out")) == 0
    assert bytes_of(tmp_path / "out") == whole


# Moved are: documents, vocabulary, manifest, its decisions, shard and record in turn, manifest.
LAST = 4 + 2 * SHARDS
USUAL = {(0, "before"), (3, "after"), (4, "after"), (LAST - 1, "after"), (LAST, "after")}


@pytest.mark.parametrize(
    ("step", "when"),
    [
        pytest.param(step, when, marks=() if (step, when) in USUAL else pytest.mark.slow)
        for step in (0, 2, 3, 4, 5, 14, LAST - 1, LAST)
        for when in ("before", "after")
    ],
)
def test_killed_at_any_file_it_continues_to_the_same_bytes(
    folder, whole, tmp_path, step, when
) -> None:
    out = tmp_path / "out"
    exitcode = ended(started(killed_at, folder, out, step, when))
    assert exitcode == -signal.SIGKILL
    assert bytes_of(out) != whole
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*.h5") if has_record(path)}
    job(folder, out)
    assert bytes_of(out) == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert verify(out) == []


def has_record(path: Path) -> bool:
    return path.with_suffix(".json").exists()


def test_killed_again_and_again_it_ends_in_the_same_bytes(folder, whole, tmp_path) -> None:
    out = tmp_path / "out"
    kills = 0
    for wait in (0.0, 0.03, 0.01):
        done = len(list(out.glob("shard-*.h5")))
        child = started(slow, folder, out)
        while child.is_alive() and len(list(out.glob("shard-*.h5"))) <= done:
            time.sleep(0.002)
        time.sleep(wait)
        child.kill()
        kills += ended(child) == -signal.SIGKILL
        assert not bytes_of(out).keys() - whole.keys() - unfinished(out)
    assert kills >= 2
    job(folder, out)
    assert bytes_of(out) == whole


def unfinished(out: Path) -> set[str]:
    left = [*out.glob("*.partial"), *out.glob("shard-*.json")]
    return {path.name for path in left}


def test_interrupted_it_keeps_finished_shards_and_says_so(folder, whole, tmp_path) -> None:
    out = tmp_path / "out"
    child = started(slow, folder, out)
    while child.is_alive() and not (out / "shard-00001.json").exists():
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGINT)
    assert ended(child) == 130
    finished = [path for path in out.glob("shard-*.h5") if has_record(path)]
    assert 2 <= len(finished) < SHARDS
    assert all(files.sha256(path) == whole[path.name] for path in finished)
    with pytest.raises(StoreIncomplete, match=r"of 667 rows; run the same `interp capture` again"):
        ActivationStore.open(out)
    job(folder, out)
    assert bytes_of(out) == whole


def test_while_one_process_captures_another_is_refused(folder, whole, tmp_path) -> None:
    out = tmp_path / "out"
    child = started(slow, folder, out)
    while child.is_alive() and not (out / "shard-00000.json").exists():
        time.sleep(0.002)
    with pytest.raises(StoreError, match="another capture is writing"):
        job(folder, out)
    assert ended(child) == 0
    assert bytes_of(out) == whole


@pytest.mark.parametrize(
    "lost",
    [["shard-00000.h5"], ["shard-00003.h5", "shard-00008.h5"], ["documents.jsonl"],
     ["vocabulary.json", "shard-00001.h5"]],
    ids=lambda names: " and ".join(names),
)  # fmt: skip
def test_lost_files_of_a_finished_store_are_made_again(folder, whole, tmp_path, lost) -> None:
    out = tmp_path / "out"
    shutil.copytree(folder / "whole", out)
    for name in lost:
        (out / name).unlink()
    job(folder, out)
    assert bytes_of(out) == whole
