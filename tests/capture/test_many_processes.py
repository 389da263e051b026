"""Several processes write one store; its bytes are those that one process writes."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from interp import capture
from interp.capture.ranks import Ranks
from interp.errors import StoreError
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

REPOSITORY = Path(__file__).parents[2]
SHARDS = 9


def slow(*values):
    """A case of the longer proofs: the usual run has another of its kind."""
    return pytest.param(*values, marks=pytest.mark.slow)


def job(folder: Path, out: Path, ranks: Ranks | None = None, **settings) -> ActivationStore:
    """A capture whose first shard sends a site over to bfloat16."""
    model = tiny_model(folder / "tokenizer.json")
    lengthen(model, " cat", 1e6)
    settings = SETTINGS | {"shard_rows": 80, "dtype": "float16"} | settings
    corpus = str(folder / "texts")
    return capture(model, SITES, corpus, out=out, ranks=ranks or Ranks(), **settings)


def member(
    folder: Path, out: Path, rank: int, world: int, die: str, stop: str, timeout: float
) -> None:
    """In a child: one rank; it is killed before it moves a file of one name, stopped after."""
    real = os.replace

    def replace(source, target) -> None:
        if die and Path(target).name == die:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
        real(source, target)
        if stop and Path(target).name == stop:
            os.kill(os.getpid(), signal.SIGSTOP)

    os.replace = replace
    try:
        store = job(folder, out, Ranks(rank=rank, world=world, timeout=timeout))
        assert store.manifest.state == "sealed"
    except StoreError as error:
        (out.parent / f"error-{rank}").write_text(str(error))
        sys.exit(1)


def started(
    folder: Path, out: Path, world: int, *, die=("", -1), stop=("", -1), timeout=90.0, without=()
):
    children = {}
    for rank in range(world):
        if rank not in without:
            own = [name if rank == who else "" for name, who in (die, stop)]
            arguments = (folder, out, rank, world, *own, timeout)
            children[rank] = FORKS.Process(target=member, args=arguments)
            children[rank].start()
    return children


def ended(children) -> dict[int, int | None]:
    for child in children.values():
        child.join(120)
    return {rank: child.exitcode for rank, child in children.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    learn_tokenizer(write_texts(folder / "texts"), folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="module")
def whole(folder) -> dict[str, str]:
    """The bytes that one process writes."""
    store = job(folder, folder / "whole")
    assert len(store.manifest.shards) == SHARDS
    assert set(store.manifest.dtypes.values()) == {"bfloat16", "float16"}
    assert store.sinks.any()
    return bytes_of(store.path)


@pytest.mark.parametrize("world", [slow(2), 3, slow(11)])
def test_any_number_of_processes_writes_the_same_bytes(folder, whole, tmp_path, world) -> None:
    out = tmp_path / "out"
    assert set(ended(started(folder, out, world)).values()) == {0}
    assert bytes_of(out) == whole
    assert verify(out) == []


KILLS = {
    "before its first shard": (("shard-00001.h5", 1), [1, 4, 7]),
    "between a shard and its record": (("shard-00004.json", 1), [4, 7]),
    "before its last": (("shard-00008.h5", 2), [8]),
}
"""Rank r of 3 has shards r, r + 3, r + 6."""
USUAL = {("before its first shard", 1), ("between a shard and its record", 3)}


@pytest.mark.parametrize(
    ("when", "again"),
    [
        (when, again) if (when, again) in USUAL else slow(when, again)
        for when in KILLS
        for again in (1, 2, 3)
    ],
)
def test_a_killed_rank_is_told_and_any_number_of_processes_continues(
    folder, whole, tmp_path, when, again
) -> None:
    out = tmp_path / "out"
    die, lost = KILLS[when]
    exits = ended(started(folder, out, 3, die=die))
    assert exits == {rank: -signal.SIGKILL if rank == die[1] else 1 for rank in range(3)}
    names = ", ".join(f"shard-{index:05d}.h5" for index in lost)
    assert (tmp_path / "error-0").read_text() == (
        f"{out} lacks {names}: rank {die[1]} of 3 ended before writing them, see its message; "
        "run the same command again, with any number of processes: it continues"
    )
    other = 3 - die[1]
    assert "rank 0 to seal" in (tmp_path / f"error-{other}").read_text()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*.h5") if has_record(path)}
    assert len(kept) == SHARDS - len(lost)
    if again == 1:
        job(folder, out)
    else:
        assert set(ended(started(folder, out, again)).values()) == {0}
    assert bytes_of(out) == whole
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def has_record(path: Path) -> bool:
    return path.with_suffix(".json").exists()


@pytest.mark.parametrize(
    "name", ["manifest.json", slow("plan.json"), slow("shard-00000.h5"), "shard-00003.json"]
)
def test_when_rank_0_is_killed_the_others_end_and_the_same_command_continues(
    folder, whole, tmp_path, name
) -> None:
    out = tmp_path / "out"
    exits = ended(started(folder, out, 3, die=(name, 0), timeout=2.0))
    assert exits == {0: -signal.SIGKILL, 1: 1, 2: 1}
    for rank in (1, 2):
        error = (tmp_path / f"error-{rank}").read_text()
        begun = name.startswith("shard")  # and yet a late rank finds nobody
        assert "for rank 0 to begin" in error or (begun and "for rank 0 to seal" in error)
    assert set(ended(started(folder, out, 2)).values()) == {0}
    assert bytes_of(out) == whole


def test_a_rank_that_never_comes_is_named(folder, whole, tmp_path) -> None:
    out = tmp_path / "out"
    assert ended(started(folder, out, 3, timeout=1.0, without=[2])) == {0: 1, 1: 1}
    error = (tmp_path / "error-0").read_text()
    assert "lacks shard-00002.h5, shard-00005.h5, shard-00008.h5: rank 2 of 3 never joined" in error
    job(folder, out)
    assert bytes_of(out) == whole


def test_while_one_rank_of_a_killed_run_still_writes_no_other_may(folder, whole, tmp_path) -> None:
    out = tmp_path / "out"
    die, stop = ("shard-00004.json", 0), ("shard-00001.json", 1)
    children = started(folder, out, 2, die=die, stop=stop)
    child = children.pop(1)
    assert ended(children) == {0: -signal.SIGKILL}
    while psutil.Process(child.pid).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    with pytest.raises(StoreError, match=r"rank 1 of another capture is writing .*out; wait"):
        job(folder, out)
    os.kill(child.pid, signal.SIGCONT)
    assert ended({1: child}) == {1: 1}
    job(folder, out)
    assert bytes_of(out) == whole


def test_ranks_that_ask_for_something_else_are_refused(folder, whole, tmp_path) -> None:
    out = tmp_path / "out"
    children = started(folder, out, 3, timeout=90.0, without=[1, 2])
    ranks = Ranks(rank=1, world=3, timeout=90.0)
    refused = "would capture something else than rank 0|holds another capture"
    with pytest.raises(StoreError, match=refused):
        job(folder, out, ranks, seed=5)
    with pytest.raises(StoreError, match="rank 1 of 2 found a capture of 3 processes"):
        job(folder, out, Ranks(rank=1, world=2, timeout=90.0))
    children |= started(folder, out, 3, timeout=90.0, without=[0, 1])
    job(folder, out, ranks)
    assert ended(children) == {0: 0, 2: 0}
    assert bytes_of(out) == whole


def test_a_sealed_store_that_lost_a_shard_is_mended_by_several(folder, whole, tmp_path) -> None:
    out = tmp_path / "out"
    job(folder, out)
    for index in (0, 4, 5):
        (out / f"shard-{index:05d}.h5").unlink()
    assert set(ended(started(folder, out, 2)).values()) == {0}
    assert bytes_of(out) == whole


# -- under torchrun -----------------------------------------------------------------------------

SCRIPT = """
import pathlib, sys
import torch.distributed as dist
from tests.capture.test_many_processes import job
from interp.capture.ranks import Ranks

folder, out, die = map(str, sys.argv[1:])
dist.init_process_group("gloo")
ranks = Ranks.of_environment(timeout=90.0)
assert (ranks.rank, ranks.world) == (dist.get_rank(), dist.get_world_size())
seen = []
if die == str(ranks.rank):
    import os, signal
    real = os.replace
    def replace(source, target):
        if str(target).endswith("shard-00004.h5"):
            os.kill(os.getpid(), signal.SIGKILL)
        real(source, target)
    os.replace = replace
tell = lambda *told: seen.append(told)
store = job(pathlib.Path(folder), pathlib.Path(out), ranks, progress=tell)
dist.barrier()
assert bool(seen) == (ranks.rank == 0)
if seen:
    assert seen[-1][:2] == (store.rows, store.rows)
dist.destroy_process_group()
"""


def torchrun(folder: Path, out: Path, world: int, die: str = "-") -> subprocess.CompletedProcess:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={world}"]
    command += [f"--master-port={port}", str(script), str(folder), str(out), die]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("world", [2, slow(3)])
def test_under_torchrun_and_gloo_the_bytes_are_the_same(folder, whole, tmp_path, world) -> None:
    done = torchrun(folder, tmp_path / "out", world)
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path / "out") == whole


def test_torchrun_ends_when_a_rank_is_killed_and_continues_with_another_number(
    folder, whole, tmp_path
) -> None:
    out = tmp_path / "out"
    assert torchrun(folder, out, 3, die="1").returncode != 0
    assert not (out / "shard-00004.json").exists()
    done = torchrun(folder, out, 2)
    assert done.returncode == 0, done.stderr
    assert bytes_of(out) == whole
