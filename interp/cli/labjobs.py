"""Several results of the lab side by side, each on one thread of its own process."""

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

from interp.errors import InterpError
from interp.workspace import Workspace

if TYPE_CHECKING:
    from interp.lab import Experiment


def one_thread() -> None:
    """Before torch is imported: these models are too small for more, and sums keep their order."""
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def together(chosen: "Sequence[Experiment]") -> "list[list[Experiment]]":
    """Results that a process runs after one another: those that share their trainings."""
    groups: list[list[Experiment]] = []
    for experiment in chosen:
        kin = [
            group
            for group in groups
            if isinstance(experiment, type(group[0])) or isinstance(group[0], type(experiment))
        ]
        if kin:
            kin[0].append(experiment)
        else:
            groups.append([experiment])
    return groups


def run_apart(
    groups: "Sequence[Sequence[Experiment]]",
    jobs: int,
    args: argparse.Namespace,
    workspace: Workspace,
    done: Callable[[dict[str, Any]], None],
) -> None:
    """Run ``interp lab run`` for each group, ``jobs`` at a time.

    Args:
        groups: results by process.
        jobs: processes at a time.
        args: of the command that was given.
        workspace: where the results go.
        done: told each result as its process ends.

    Raises:
        InterpError: processes failed; the others ran to their end first.
    """
    flags = [f"--{args.effort}", "--json", f"--workspace={workspace.root}"]
    if args.seeds is not None:
        flags.append(f"--seeds={args.seeds}")
    children: list[subprocess.Popen[str]] = []
    stopped = threading.Event()

    def run(names: list[str]) -> tuple[list[str], int, str, str]:
        if stopped.is_set():
            return names, 130, "", ""
        child = subprocess.Popen(
            [sys.executable, "-m", "interp", "lab", "run", *names, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        out, error = child.communicate()
        return names, child.returncode, out, error

    failures: list[str] = []
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(run, [each.name for each in group]) for group in groups]
        try:
            for future in as_completed(running):
                names, code, out, error = future.result()
                if code == 0:
                    for result in json.loads(out)["results"]:
                        done(result)
                else:
                    said = error.strip().splitlines() or [f"exit code {code}"]
                    failures.append(f"{' and '.join(names)}: {said[-1]}")
        finally:
            stopped.set()
            for child in children:
                if child.poll() is None:
                    child.terminate()
    if failures:
        raise InterpError("not all results ran to their end; " + "; ".join(failures))
