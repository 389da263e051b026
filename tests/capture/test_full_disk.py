"""A disk that is really full, or read-only: one mounted in a namespace of the test's own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from interp.cli import main
from tests.capture.tiny import bytes_of

SIZES = ["48k", "96k"]
"""Of the disk while it is too small: for the first shard, and for a later one."""

INSIDE = """
import json, shutil, subprocess, sys
from pathlib import Path

from interp.cli import main

disk, taken, sizes, command = json.loads(sys.argv[1])


def mounted(size, *options):
    option = ",".join([*options, f"size={size}"])
    subprocess.run(["mount", "-t", "tmpfs", "-o", option, "none", disk], check=True)


def captured():
    return main([*command, "--workspace", disk, "--out", "mine"])


def took(what, code):
    print(f"{what}: ended with {code}", file=sys.stderr)


mounted(sizes[0])
for number, size in enumerate(sizes):
    mounted(size, "remount")
    took("full", captured())
    shutil.copytree(f"{disk}/stores/mine", f"{taken}/{number}")
mounted("64m", "remount", "ro")
took("read-only", captured())
mounted("64m", "remount", "rw")
took("whole", captured())
mounted("64m", "remount", "ro")
took("sealed and read-only", main(["verify", "mine", "--workspace", disk]))
shutil.copytree(f"{disk}/stores/mine", f"{taken}/whole")
"""


def can_mount(folder: Path) -> bool:
    """Whether this system lets a process mount a disk that it alone sees."""
    if not shutil.which("unshare"):
        return False
    own = ["unshare", "--user", "--map-root-user", "--mount"]
    return not subprocess.run(
        [*own, "mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], capture_output=True
    ).returncode


def test_a_full_or_read_only_disk_is_one_sentence_and_the_same_command_continues(
    saved, texts, workspace, tmp_path
) -> None:
    disk, taken = tmp_path / "disk", tmp_path / "taken"
    disk.mkdir()
    taken.mkdir()
    if not can_mount(disk):
        pytest.skip("no disk can be mounted here")
    command = ["capture", str(saved), "resid_post.0", "mlp_post.1", "--corpus", str(texts)]
    command += ["--context", "10", "--shard-rows", "80", "--heldout", "0.3", "--dtype", "float32"]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", INSIDE]
        + [json.dumps([str(disk), str(taken), SIZES, command])],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    errors = [line for line in done.stderr.splitlines() if "no space left" in line]
    assert len(errors) == len(SIZES)
    assert all(str(disk / "stores" / "mine") in line and "continues" in line for line in errors)
    assert done.stderr.count("full: ended with 1") == len(SIZES)
    (error,) = (line for line in done.stderr.splitlines() if "Read-only file system" in line)
    assert error.startswith(f"interp capture: cannot write {disk}")
    for end in (
        "read-only: ended with 1",
        "whole: ended with 0",
        "sealed and read-only: ended with 0",
    ):
        assert end in done.stderr
    assert "Traceback" not in done.stderr
    assert main([*command, "--out", "whole"]) == 0
    whole = bytes_of(workspace.store("whole"))
    assert bytes_of(taken / "whole") == whole
    kept = [records(taken / str(number), whole) for number in range(len(SIZES))]
    assert 0 < kept[0] < kept[1] < sum(name.endswith(".h5") for name in whole)


def records(folder: Path, whole: dict[str, str]) -> int:
    """How many shards a full disk left; each with a record is whole."""
    names = [record.with_suffix(".h5").name for record in folder.glob("shard-*.json")]
    left = bytes_of(folder)
    assert all(left[name] == whole[name] for name in names)
    return len(names)
