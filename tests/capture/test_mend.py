"""What `interp verify` prints when a store is damaged is what mends it, typed as it stands."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from interp.cli import main
from interp.workspace import Workspace
from tests.capture.tiny import bytes_of

pytestmark = pytest.mark.skipif(os.name == "nt", reason="runs rm")


def capture_into(workspace: Workspace, saved: Path, texts: Path, *more: str) -> Path:
    command = ["capture", str(saved), "resid_post.0", "mlp_post.1", "--corpus", str(texts)]
    command += ["--context", "10", "--shard-rows", "100", "--heldout", "0.3", "--tokens", "500"]
    assert main([*command, "--out", "mine", *more]) == 0
    return workspace.store("mine")


def test_the_printed_commands_mend_a_damaged_store(
    saved, texts, workspace, tmp_path, capsys
) -> None:
    path = capture_into(workspace, saved, texts, "--model-dtype", "bfloat16", "--seed", "3")
    whole = bytes_of(path)
    assert main(["verify", "mine"]) == 0
    for name in ("shard-00001.h5", "shard-00003.h5"):
        data = bytearray((path / name).read_bytes())
        data[-9] ^= 1
        (path / name).write_bytes(data)
    (path / "shard-00002.h5").unlink()
    (path / "documents.jsonl").write_text("{}\n")
    kept = (path / "shard-00000.h5").stat().st_mtime_ns
    capsys.readouterr()
    assert main(["verify", "mine"]) == 1
    shown = capsys.readouterr()
    assert "has 4 problem(s)" in shown.err
    first, second = [shlex.split(line) for line in shown.out.splitlines() if line[:2] == "  "]
    damaged = ["shard-00001.h5", "shard-00003.h5", "documents.jsonl"]
    assert first == ["rm", *(str(path / name) for name in damaged)]
    assert second[:2] == ["interp", "capture"]
    subprocess.run(first, check=True)
    assert main(second[1:]) == 0
    assert bytes_of(path) == whole
    assert (path / "shard-00000.h5").stat().st_mtime_ns == kept
    assert main(["verify", "mine"]) == 0


def test_an_unfinished_or_incomplete_store_needs_the_capture_alone(
    saved, texts, workspace, tmp_path, monkeypatch, capsys
) -> None:
    path = capture_into(workspace, saved, texts, "--dtype", "float32", "--batch-tokens", "64")
    whole = bytes_of(path)
    (path / "shard-00002.h5").unlink()
    monkeypatch.setenv("INTERP_WORKSPACE", str(tmp_path / "elsewhere"))
    capsys.readouterr()
    assert main(["verify", str(path)]) == 1
    (command,) = [line for line in capsys.readouterr().out.splitlines() if line[:2] == "  "]
    assert shlex.split(command)[-2:] == ["--workspace", str(workspace.root)]
    assert main(shlex.split(command)[1:]) == 0
    assert bytes_of(path) == whole


def test_a_store_that_no_command_made_gets_no_command(captured, capsys) -> None:
    path = captured().path
    (path / "shard-00002.h5").unlink()
    assert main(["verify", str(path)]) == 1
    shown = capsys.readouterr()
    assert "shard-00002.h5 is missing; run the same `interp capture` again" in shown.err
    assert not shown.out
