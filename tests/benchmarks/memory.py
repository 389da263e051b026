"""Resident memory of a capture of ten times as many tokens.

python -m tests.benchmarks memory [--quick]

SmolLM2 in bfloat16, `resid_post.9`, shards of 8,192 rows, 81,920 and 819,200 tokens of the same
corpus: two commands, each in a process of its own. From the first sealed shard on, when model, plan
and vocabulary are loaded, its resident memory is read 50 times a second; the most and the median
of either are compared. Linux only, by /proc.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from interp.workspace import Workspace

TOKENS, SHARD = 81_920, 8192


def main(*, quick: bool) -> int:
    """Print both and their ratio."""
    if not Path("/proc/self/status").exists():
        print("resident memory is read from /proc, which this system lacks", file=sys.stderr)
        return 2
    tokens = TOKENS // 2 if quick else TOKENS
    named = os.environ.get("INTERP_TEST_WORKSPACE") or Path.home() / ".cache" / "interp-tests"
    workspace, found = Workspace.at(named), []
    for amount in (tokens, 10 * tokens):
        name = f"memory-{os.getpid()}"
        try:
            found.append(resident(amount, workspace, name))
        finally:
            shutil.rmtree(workspace.store(name), ignore_errors=True)
        most, usual = found[-1]
        print(f"{amount:,} tokens: {most:.0f} MB at most, {usual:.0f} MB by the median", flush=True)
    ratios = (more / less for less, more in zip(*found, strict=True))
    print("ten times as many take {:.3f} of that at most, {:.3f} by the median".format(*ratios))
    return 0


def resident(tokens: int, workspace: Workspace, name: str) -> tuple[float, float]:
    """MB at most and by the median, from a capture's first sealed shard to its end."""
    command = [sys.executable, "-m", "interp", "capture", "smollm2-135m", "resid_post.9"]
    command += ["--corpus", "library", "--model-dtype", "bfloat16", "--tokens", str(tokens)]
    command += ["--shard-rows", str(SHARD), "--out", name, "--workspace", str(workspace.root)]
    folder = workspace.store(name)
    sizes: list[float] = []
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said) as child:
            while child.poll() is None:
                if (folder / "shard-00000.h5").exists():
                    sizes.append(megabytes(child.pid))
                time.sleep(0.02)
        if child.returncode or not sizes:
            said.seek(0)
            raise RuntimeError(said.read().decode().strip() or "no shard was seen")
    sizes = [size for size in sizes if size]
    return max(sizes), statistics.median(sizes)


def megabytes(pid: int) -> float:
    """Resident now; 0 where the process has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)
