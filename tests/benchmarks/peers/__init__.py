"""Work done by other tools, in an environment of their own.

The modules here are run by that environment's Python, named by ``INTERP_PEERS``; nothing in this
project imports them. README.md beside this file says how to install it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "INTERP_PEERS"


class Worker:
    """A peer's process that does one task at a time."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, task: str) -> float:
        """Do a task; gives the seconds it took inside the peer's process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(task, file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)["seconds"]
        raise RuntimeError(f"the peer ended at {task}; its message is above")


@contextmanager
def worker(module: str, *arguments: str) -> Generator[Worker, None, None]:
    """Start a module of this folder under the peers' Python."""
    python = os.environ.get(VARIABLE)
    if not python:
        sys.exit(
            f"set {VARIABLE} to the Python of an environment that holds the peers; see "
            "tests/benchmarks/peers/README.md"
        )
    script = Path(__file__).with_name(f"{module}.py")
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [python, str(script), *arguments], stdin=pipe, stdout=pipe, text=True
    ) as process:
        try:
            yield Worker(process)
        finally:
            process.kill()
