"""Two real processes train what one does; killed, they or any other number continue."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.errors import ResourceError
from interp.sae import BatchTopK, TopK, TrainConfig, load_dictionary, train_many
from interp.sae.files import CHECKPOINT
from interp.sae.job import names
from interp.sae.parallel import ALONE, Mesh
from interp.sae.trainer import Trainer
from interp.store import ActivationStore
from interp.workspace import Workspace
from tests.forks import FORKS
from tests.sae.shared import planted_store

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")

REPOSITORY = Path(__file__).parents[2]
SITE = "resid_post.0"
BASE = TrainConfig(
    tokens=64 * 40,
    batch=64,
    lr=1e-2,
    dead_after=64 * 2,
    checkpoint_every=64 * 7,
    log_every=4,
    evaluate_every=64 * 20,
    clip=1.0,  # gradients are two to five times as long
)
RUNS = [(TopK(latents=48, k=3, aux_k=5), BASE), (BatchTopK(latents=48, k=3, aux_k=5), BASE)]


def job(store: Path, workspace: Path, mesh: Mesh = ALONE) -> None:
    train_many(ActivationStore.open(store), SITE, RUNS, workspace=workspace, mesh=mesh)


def member(
    store: Path, workspace: Path, rank: int, world: int, parts: int, port: int, die: int, how: int
) -> None:
    """In a child: one rank; it gets a signal before that step of the second run."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    real = Trainer.step

    def step(self):
        if die and self.done == die and "threshold_mean" in self.learner.state():
            os.kill(os.getpid(), how)
        return real(self)

    Trainer.step = step
    try:
        with Mesh.joined(rank, world, torch.device("cpu"), latents=parts) as mesh:
            job(store, workspace, mesh)
    except ResourceError as error:
        (workspace / f"error-{rank}").write_text(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def by(
    world: int, parts: int, store: Path, workspace: Path, die=(-1, 0), how=signal.SIGKILL
) -> list[int | None]:
    """Exit codes of so many processes that train together."""
    workspace.mkdir(exist_ok=True)
    port, (dying, step) = free_port(), die
    children = [
        FORKS.Process(
            target=member,
            args=(store, workspace, rank, world, parts, port, step if rank == dying else 0, how),
        )
        for rank in range(world)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    return [child.exitcode for child in children]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return planted_store(tmp_path_factory.mktemp("store") / "planted").path


def folders(store: Path, workspace: Path) -> list[Path]:
    opened = ActivationStore.open(store)
    place = Workspace.at(workspace)
    return [place.dictionary(opened.model, SITE, name) for name in names(16, RUNS)]


def bytes_of(path: Path) -> bytes:
    """Without the commit: the checkout may be committed to while tests run."""
    return re.sub(rb'"commit": ".*"', b"", path.read_bytes())


def contents(store: Path, workspace: Path) -> list[dict[str, bytes]]:
    return [
        {path.name: bytes_of(path) for path in sorted(folder.iterdir())}
        for folder in folders(store, workspace)
    ]


@pytest.fixture(scope="module")
def alone(store, tmp_path_factory) -> Path:
    workspace = tmp_path_factory.mktemp("alone")
    job(store, workspace)
    return workspace


def same_training(store: Path, found: Path, expected: Path) -> None:
    """Equal files but for rounding."""
    pairs = zip(folders(store, found), folders(store, expected), strict=True)
    for mine, truth in pairs:
        assert sorted(p.name for p in mine.iterdir()) == sorted(p.name for p in truth.iterdir())
        assert bytes_of(mine / "config.json") == bytes_of(truth / "config.json")
        for name in ("log.jsonl", "metrics.json"):
            texts = [(folder / name).read_text().splitlines() for folder in (mine, truth)]
            assert len(texts[0]) == len(texts[1])
            if name == "metrics.json":
                texts = [["".join(text)] for text in texts]
            for line, other in zip(*texts, strict=True):
                close(json.loads(line), json.loads(other))
        for one, other in zip(
            load_dictionary(mine).state_dict().values(),
            load_dictionary(truth).state_dict().values(),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    log = [json.loads(line) for line in (mine / "log.jsonl").read_text().splitlines()]
    assert any(line.get("aux", 0) > 0 for line in log), "AuxK never helped"


def close(found, expected) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            close(found[key], expected[key])
    elif isinstance(expected, list):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1.01)  # a histogram
    elif isinstance(expected, str):
        assert found == expected
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def broken_off(parts: int, store: Path, workspace: Path) -> None:
    """By two processes, up to somewhere between two checkpoints."""
    if parts == 1:
        assert by(2, parts, store, workspace, die=(1, 30)) == [1, -signal.SIGKILL]
        assert "another process of this training has ended" in (workspace / "error-0").read_text()
    else:  # one hears of Ctrl-C, both stop at the same step
        assert by(2, parts, store, workspace, die=(1, 30), how=signal.SIGINT) == [130, 130]
    assert all((folder / CHECKPOINT).exists() for folder in folders(store, workspace))


DIVIDED = pytest.mark.parametrize("parts", [1, 2], ids=["rows", "latents"])


@DIVIDED
def test_two_train_what_one_does_even_when_broken_off(store, alone, tmp_path, parts) -> None:
    broken_off(parts, store, tmp_path / "d")
    assert by(2, parts, store, tmp_path / "d") == [0, 0]
    same_training(store, tmp_path / "d", alone)


@pytest.mark.slow
@DIVIDED
def test_as_many_continue_to_the_bytes_of_an_unbroken_run(store, tmp_path, parts) -> None:
    broken_off(parts, store, tmp_path / "broken")
    assert by(2, parts, store, tmp_path / "broken") == [0, 0]
    assert by(2, parts, store, tmp_path / "whole") == [0, 0]
    assert contents(store, tmp_path / "broken") == contents(store, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("again", [(1, 1), (2, 2), (3, 1), (4, 2), (4, 4)])
def test_any_number_continues_what_another_began(store, alone, tmp_path, again) -> None:
    workspace = tmp_path / "d"
    codes = by(4, 2, store, workspace, die=(3, 25))
    assert codes[3] == -signal.SIGKILL
    assert set(codes[:3]) == {1}
    if again[0] == 3:  # 64 rows are not divided among three
        assert by(*again, store, workspace) != [0, 0, 0]
        return
    assert set(by(*again, store, workspace)) == {0}
    same_training(store, workspace, alone)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--shard-latents", "2"]])
def test_under_torchrun_one_speaks(store, alone, tmp_path, flags) -> None:
    settings = ["--latents", "48", "--k", "3", "--aux-k", "5", "--architecture", "topk,batchtopk"]
    for name in ("tokens", "batch", "lr", "clip", "dead-after", "log-every", "evaluate-every"):
        settings += [f"--{name}", str(getattr(BASE, name.replace("-", "_")))]
    settings += ["--checkpoint-every", str(BASE.checkpoint_every), "--workspace", str(tmp_path)]
    command = ["-m", "interp", "train", str(store), SITE, *settings, *flags, "--json"]
    launch = ["-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *launch, *command],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [len(each["dictionaries"]) for each in said] == [2]
    same_training(store, tmp_path, alone)
