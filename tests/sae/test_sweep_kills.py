"""kill -9 in the middle of a sweep, at any instant: the same bytes in the end."""

import dataclasses
import os
import random
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from interp.sae import BatchTopK, JumpReLU, TopK, TrainConfig, train_many
from interp.sae.files import CHECKPOINT
from interp.sae.job import names
from interp.store import ActivationStore
from interp.workspace import Workspace
from tests.forks import FORKS
from tests.sae.shared import planted_store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")

SITE = "resid_post.0"
BASE = TrainConfig(tokens=64 * 60, batch=64, lr=1e-2, checkpoint_every=64 * 3, log_every=3)
RUNS = [
    (BatchTopK(latents=48, k=3), BASE),
    (TopK(latents=40, k=2), dataclasses.replace(BASE, lr=5e-3, resample=64 * 10, dead_after=64)),
    (JumpReLU(latents=32), dataclasses.replace(BASE, tokens=64 * 30)),  # ends before the others
    (TopK(latents=48, k=3), dataclasses.replace(BASE, seed=1)),  # another order of data
]


def sweep(store: Path, workspace: Path) -> None:
    torch.set_num_threads(1)
    train_many(ActivationStore.open(store), SITE, RUNS, workspace=workspace)


def folders(store: Path, workspace: Path) -> list[Path]:
    model, place = ActivationStore.open(store).model, Workspace.at(workspace)
    return [place.dictionary(model, SITE, name) for name in names(16, RUNS)]


def bytes_of(path: Path) -> bytes:
    """Without the commit: the checkout may be committed to while tests run."""
    return re.sub(rb'"commit": ".*"', b"", path.read_bytes())


def contents(store: Path, workspace: Path) -> list[dict[str, bytes]]:
    return [
        {path.name: bytes_of(path) for path in sorted(folder.iterdir())}
        for folder in folders(store, workspace)
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return planted_store(tmp_path_factory.mktemp("store") / "planted").path


@pytest.fixture(scope="module")
def unbroken(store, tmp_path_factory) -> list[dict[str, bytes]]:
    workspace = tmp_path_factory.mktemp("unbroken")
    sweep(store, workspace)
    return contents(store, workspace)


def started(store: Path, workspace: Path):
    child = FORKS.Process(target=sweep, args=(store, workspace))
    child.start()
    return child


def test_killed_with_checkpoints_half_written_a_sweep_ends_in_the_same_bytes(
    store, unbroken, tmp_path
) -> None:
    child = started(store, tmp_path)
    second = folders(store, tmp_path)[1] / CHECKPOINT
    while child.is_alive() and not second.exists():
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.join(60)
    assert child.exitcode == -signal.SIGKILL, "the sweep ended before it could be killed"
    sweep(store, tmp_path)
    assert contents(store, tmp_path) == unbroken


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_kills_at_random_instants_cost_nothing(store, unbroken, tmp_path, seed) -> None:
    draw = random.Random(seed)
    for _ in range(2):  # the first also waits for the process that children are forked from
        begun = time.monotonic()
        shutil.rmtree(tmp_path / "timed", ignore_errors=True)
        child = started(store, tmp_path / "timed")
        child.join(300)
        assert child.exitcode == 0
        whole = time.monotonic() - begun  # most of it to load machine code
    kills = 0
    while True:
        child = started(store, tmp_path / "d")
        early = kills < 2  # too early to end, so that two are killed whatever is drawn later
        child.join(draw.uniform(0.02, 0.6) * whole if early else draw.uniform(0.3, 0.95) * whole)
        child.kill()
        child.join(60)
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        kills += 1
        assert kills < 200, "it never gets on"
    assert kills > 1
    assert contents(store, tmp_path / "d") == unbroken
