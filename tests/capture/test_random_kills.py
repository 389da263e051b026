"""A hundred kills at random instants, of one process and of several: nothing is ever lost."""

import random
import signal
import sys
import time
from pathlib import Path

import pytest

from interp.errors import StoreIncomplete
from interp.files import sha256
from interp.store import ActivationStore, verify
from tests.capture import test_kill_and_resume as alone
from tests.capture import test_many_processes as several
from tests.capture.tiny import bytes_of, learn_tokenizer, write_texts

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL"),
]

KILLS = 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("random")
    learn_tokenizer(write_texts(folder / "texts"), folder / "tokenizer.json")
    return folder


@pytest.fixture(scope="module")
def whole(folder) -> dict[str, str]:
    """The bytes of a capture that was left alone."""
    return bytes_of(alone.job(folder, folder / "whole").path)


def duration(begin, tmp_path: Path) -> float:
    """Seconds that the job takes when it is left alone, the server of forks running."""
    begin(tmp_path / "first" / "out")
    started = time.monotonic()
    begin(tmp_path / "usual" / "out")
    return time.monotonic() - started


def opens(out: Path, whole: dict[str, str]) -> bool:
    """Whether the store is sealed; if not, it says so, and its whole shards are whole."""
    recorded = [path for path in out.glob("shard-*.h5") if path.with_suffix(".json").exists()]
    assert all(sha256(path) == whole[path.name] for path in recorded)
    if not (out / "manifest.json").exists():
        return False
    try:
        ActivationStore.open(out)
    except StoreIncomplete:
        return False
    return True


def test_one_process(folder, whole, tmp_path) -> None:
    draw = random.Random(0)
    usual = duration(lambda out: alone.ended(alone.started(alone.slow, folder, out)), tmp_path)
    kills = rounds = 0
    while kills < KILLS:
        out = tmp_path / str(rounds)
        rounds += 1
        sealed = False
        while not sealed:
            child = alone.started(alone.slow, folder, out)
            child.join(draw.uniform(0, usual))
            child.kill()
            kills += alone.ended(child) == -signal.SIGKILL
            sealed = opens(out, whole)
            if draw.random() < 0.2:
                break
        alone.job(folder, out)
        assert bytes_of(out) == whole
        assert verify(out) == []


def test_several_processes(folder, whole, tmp_path) -> None:
    draw = random.Random(1)
    usual = duration(lambda out: several.ended(several.started(folder, out, 3)), tmp_path)
    kills = rounds = 0
    while kills < KILLS:
        out = tmp_path / str(rounds) / "out"
        out.parent.mkdir()
        rounds += 1
        for _ in range(draw.randint(1, 4)):
            world = draw.randint(2, 3)
            children = several.started(folder, out, world, timeout=1.0)
            time.sleep(draw.uniform(0, usual))
            for rank in draw.sample(range(world), draw.randint(1, world)):
                children[rank].kill()
            exits = several.ended(children).values()
            kills += sum(code == -signal.SIGKILL for code in exits)
            assert set(exits) <= {0, 1, -signal.SIGKILL}
            opens(out, whole)
        alone.job(folder, out)
        assert bytes_of(out) == whole
        assert verify(out) == []
