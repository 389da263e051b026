"""Tables made in parts by several processes, killed or not: the same bytes."""

import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interp.features import extract, neurons, random_directions
from interp.features.activations import activations_path
from interp.features.guarded import Guarded
from interp.features.parts import Job, claimed, join
from interp.store import ActivationStore
from tests.features.test_extract import SITE, SMALL, Lens, a_dictionary
from tests.stores import make_store

NAME = "topk-40-k3"
SCRIPT = """
import sys
from pathlib import Path
import interp.features.parts
from interp.features import extract
from interp.store import ActivationStore
from tests.features.test_extract import SMALL, a_dictionary

interp.features.parts.UNITS = 7

def slowly(done, total, note=""):
    print(note, flush=True)
    if len(sys.argv) > 5 and note.startswith("contexts"):
        sys.stdin.read()  # until killed

store = ActivationStore.open(sys.argv[1])
extract(
    [a_dictionary()],
    store,
    config=SMALL,
    out=sys.argv[2],
    activations=True,
    ranks=(int(sys.argv[3]), int(sys.argv[4])),
    progress=slowly,
)
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    draw = np.random.default_rng(5)
    x = draw.normal(size=(1000, 12)).astype(np.float16)
    path = tmp_path_factory.mktemp("stores") / "toy"
    return make_store(path, activations={SITE: x}, documents=9)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interp.features.parts.UNITS", 7)


@pytest.fixture(scope="module")
def expected(store: ActivationStore, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files that one process makes in one go."""
    out = tmp_path_factory.mktemp("expected")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interp.features.parts.UNITS", 7)
        extract([a_dictionary()], store, config=SMALL, out=out, activations=True)
    return contents(out)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_parts_are_the_whole_but_for_rounding(store: ActivationStore, tmp_path: Path) -> None:
    bases = [neurons(store, SITE), random_directions(store, SITE, n=20), a_dictionary()]
    parted = extract(bases, store, model=Lens(), config=SMALL, out=tmp_path / "parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interp.features.parts.UNITS", 4096)
        whole = extract(bases, store, model=Lens(), config=SMALL, out=tmp_path / "whole")
    for one, two in zip(parted.tables, whole.tables, strict=True):
        assert list(one.columns) == list(two.columns)
        for name, column in one.columns.items():
            np.testing.assert_allclose(column, two.columns[name], rtol=1e-3, atol=1e-5)
        assert one.rules == two.rules
        for unit in range(one.n_units):
            assert one.promoted(unit) == two.promoted(unit)
            senses = [[each.exemplar for each in t.meaning(unit).senses] for t in (one, two)]
            assert senses[0] == senses[1]
            for here, there in zip(one.contexts(unit), two.contexts(unit), strict=True):
                np.testing.assert_array_equal(here.rows, there.rows)


@pytest.mark.parametrize("world", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_any_number_of_processes_makes_the_same_bytes(
    store: ActivationStore, tmp_path: Path, expected: dict[str, bytes], world: int
) -> None:
    command = [sys.executable, "-c", SCRIPT, str(store.path), str(tmp_path)]
    ranks = [
        subprocess.Popen([*command, str(rank), str(world)], stdout=subprocess.PIPE, text=True)
        for rank in range(world)
    ]
    said = [rank.communicate()[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * world
    assert contents(tmp_path) == expected
    worked = sum("encoding" in each for each in said)
    assert worked >= 1


def test_killed_and_run_again_it_makes_only_what_is_missing(
    store: ActivationStore, tmp_path: Path, expected: dict[str, bytes]
) -> None:
    command = [sys.executable, "-c", SCRIPT, str(store.path), str(tmp_path), "0", "1"]
    parts = tmp_path / f"{NAME}.h5.parts"
    with subprocess.Popen(
        [*command, "stop"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("contexts"):
                break
        process.stdin.close()  # it goes on; kill it when it has finished parts, but not all
        while not list(parts.glob("*.h5")):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
    made = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.h5")}
    if not made:  # it was faster and has finished
        assert contents(tmp_path) == expected
        return
    extract([a_dictionary()], store, config=SMALL, out=tmp_path, activations=True)
    assert contents(tmp_path) == expected


def test_a_dead_process_leaves_its_parts_to_others(store: ActivationStore, tmp_path: Path) -> None:
    job = Job(neurons(store, SITE), tmp_path / "neurons.h5", "0" * 64, False)
    assert [(part.first, part.last) for part in job.parts] == [(0, 6), (6, 12), (12, 18), (18, 24)]
    with claimed(job.parts, (0, 2), int, 100) as one:
        assert [part.first for part in one] == [0, 12]
        with claimed(job.parts, (1, 2), int, 100) as two:
            assert [part.first for part in two] == [6, 18]
            with claimed(job.parts, (0, 1), int, 100) as none:
                assert none == []
        with claimed(job.parts, (0, 2), int, 100) as stolen:
            assert [part.first for part in stolen] == [6, 18]
    with claimed(job.parts, (0, 1), int, 13) as bounded:
        assert [part.first for part in bounded] == [0, 6]
    with claimed(job.parts, (0, 1), int, 1) as least:
        assert [part.first for part in least] == [0]


def test_joining_twice_does_no_harm(store: ActivationStore, tmp_path: Path) -> None:
    (table,) = extract([neurons(store, SITE)], store, config=SMALL, out=tmp_path).tables
    before = table.path.read_bytes()
    join(Job(neurons(store, SITE), table.path, table.key, False))
    assert table.path.read_bytes() == before
    assert not activations_path(table.path).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be removed")
def test_a_part_may_be_joined_and_removed_while_it_is_asked_for(
    store: ActivationStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (table,) = extract([neurons(store, SITE)], store, config=SMALL, out=tmp_path).tables
    opened = Guarded.opened

    @contextmanager
    def removing(self: Guarded) -> Generator[Any]:
        with opened(self) as file:
            self.path.unlink()
            yield file

    monkeypatch.setattr(Guarded, "opened", removing)
    assert Job(neurons(store, SITE), table.path, table.key, False).done
    assert not table.path.exists()
