"""`interp bench` beside the peers' trainers, in the environment that ``INTERP_PEERS`` names.

python -m tests.benchmarks peers [--quick] [flags of `interp bench`]

tests/benchmarks/peers/README.md says how to make that environment. 29 trainers, 25 seconds of steps
each: about 25 minutes; --quick asks for 2 seconds each, to see whether all of them run.
"""

import os
import sys
from pathlib import Path

from interp.cli import main as interp
from tests.benchmarks.peers import VARIABLE


def main(flags: list[str]) -> int:
    """Run it; the exit code is that of `interp bench`."""
    python = os.environ.get(VARIABLE)
    if not python:
        print(f"set {VARIABLE}; see tests/benchmarks/peers/README.md", file=sys.stderr)
        return 2
    drivers = Path(__file__).with_name("peers")
    return interp(["bench", "--peers", python, "--drivers", str(drivers), *flags])
