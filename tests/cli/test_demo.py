"""The demo from an empty workspace: everything it promises, resumable, nothing done twice."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apps import inventory
from interp.cli import verb_parser
from interp.cli.demo import steps
from interp.files import read_json
from interp.store import ActivationStore, verify
from interp.workspace import Workspace

COMMAND = [sys.executable, "-m", "interp", "demo", "--quick", "--no-app"]
REPOSITORY = Path(__file__).parents[2]


def start(root: Path, log: Path) -> "subprocess.Popen[bytes]":
    with log.open("ab") as out:
        return subprocess.Popen(
            [*COMMAND, "--workspace", str(root)], stdout=out, stderr=out, cwd=REPOSITORY
        )


def fresh(root: Path, downloads: Workspace) -> Workspace:
    """An empty workspace but for what was downloaded: the network is not what is tested here."""
    shutil.copytree(downloads.root / "assets", root / "quick" / "assets")
    return Workspace(root / "quick")


def link_model(workspace: Workspace, prepared: Workspace) -> None:
    """Spare the demo the half minute in which a downloaded model is unpacked and dequantised."""
    (workspace.root / "models").mkdir()
    own = workspace.root / "models" / "smollm2-135m"
    own.symlink_to(prepared.root / "models" / own.name, target_is_directory=True)


@pytest.fixture(scope="module")
def done(tmp_path_factory, real_workspace):
    """The workspace of one whole demo, and what it printed."""
    root = tmp_path_factory.mktemp("demo")
    workspace = fresh(root, real_workspace)
    link_model(workspace, real_workspace)
    log = root / "log"
    process = start(root, log)
    assert process.wait(timeout=400) == 0, log.read_text()[-3000:]
    return workspace, log.read_text()


def digests(workspace: Workspace) -> dict[str, str]:
    """What must not depend on interruptions: activations, weights, figures and unit tables."""
    kept = [
        *workspace.root.glob("stores/*/shard-*.h5"),
        *workspace.root.glob("models/*/*.safetensors"),
        *workspace.root.glob("dictionaries/*/*/*/weights.safetensors"),
        *workspace.root.glob("dictionaries/*/*/*/metrics.json"),
    ]
    return {
        str(path.relative_to(workspace.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in kept
    }


@pytest.mark.parametrize("quick", [False, True])
def test_every_step_is_a_command_line_of_its_own(quick):
    for step in steps(quick=quick):
        verb, *arguments = step.arguments
        verb_parser(verb).parse_args(arguments)
    assert len({step.key for step in steps(quick=quick)}) == len(steps(quick=quick))


def test_it_leaves_what_it_promises(done):
    workspace, printed = done
    for step in steps(quick=True):
        assert step.title in printed
        for path in step.results(workspace):
            assert path.exists(), f"{step.title} left no {path}"
    for model in ("shakespeare-1l", "shakespeare-1l@0", "smollm2-135m"):
        path = workspace.store(model)
        assert verify(path) == []
        assert ActivationStore.open(path).heldout.any()
    for model, name in (
        ("shakespeare-1l/mlp_post.0", "batchtopk-2048-k16-s0"),
        ("smollm2-135m/resid_post.9", "batchtopk-4608-k32-s0"),
    ):
        metrics = read_json(workspace.root / "dictionaries" / model / name / "metrics.json")
        assert 0 < metrics["heldout"]["fve"] < 1
        assert metrics["downstream"]["ce_mean_ablation"] > metrics["downstream"]["ce"]
        assert metrics["downstream"]["loss_recovered"] > 0


def test_its_summary_shows_held_out_figures_of_every_dictionary(done):
    _, printed = done
    summary = printed[printed.rindex("loss recovered") :]
    for name in ("batchtopk-2048-k16-s0", "topk-4608-k32-s0", "batchtopk-3072-k32-s0"):
        (line,) = re.findall(rf"^.*\s{name}\s.*$", summary, flags=re.MULTILINE)
        assert re.search(rf"{name}\s+0\.\d+\s+\d", line)


def test_all_of_it_is_ready_in_the_app(done):
    workspace, _ = done
    assert {item.state for item in inventory.dictionaries(workspace)} == {"ready"}
    assert {item.state for item in inventory.stores(workspace)} == {"ready"}
    assert {item.state for item in inventory.tables(workspace)} == {"ready"}
    for item in inventory.dictionaries(workspace):
        assert 0 < item.facts["fve"] < 1
        assert item.facts["l0"] > 0


def test_a_second_run_does_nothing_again(done, tmp_path):
    workspace, _ = done
    before = {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*")}
    process = start(workspace.root.parent, tmp_path / "log")
    assert process.wait(timeout=60) == 0
    assert "[1/" not in (tmp_path / "log").read_text()
    assert {path: path.stat().st_mtime_ns for path in workspace.root.rglob("*")} == before


def wait_for(log: Path, text: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(4000):
        if text in log.read_text():
            return
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.05)
    raise AssertionError(f"{text!r} was never printed")


def test_interrupted_it_exits_130_with_one_line_and_goes_on(tmp_path, real_workspace):
    fresh(tmp_path, real_workspace)
    log = tmp_path / "log"
    log.touch()
    process = start(tmp_path, log)
    wait_for(log, "[2/", process)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    last = log.read_text().strip().splitlines()[-1]
    assert "interrupted" in last
    assert "same command" in last
    log.write_text("")
    process = start(tmp_path, log)
    wait_for(log, "[2/", process)
    assert "[1/" not in log.read_text()
    process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_at_any_step_it_ends_with_the_same_bytes(done, tmp_path, real_workspace):
    """Killed a moment into every step, with a last run to the end."""
    workspace = fresh(tmp_path, real_workspace)
    log = tmp_path / "log"
    log.touch()
    for number in range(1, len(steps(quick=True)) + 1):
        process = start(tmp_path, log)
        wait_for(log, f"[{number}/", process)
        time.sleep(1.0 + 0.3 * (number % 3))
        process.kill()
        process.wait()
    assert start(tmp_path, log).wait(timeout=400) == 0
    assert digests(workspace) == digests(done[0])
