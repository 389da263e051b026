"""Runs one job's command, writes down how it ended, and interrupts it when asked to.

    python -m apps.supervise <workspace>/jobs/<id> <workspace>

A process of its own that outlives the app (see `apps.jobs`). It holds the job's lock for as long
as the command runs. A first request to cancel interrupts the command as Ctrl-C does; a second
one kills it, which costs no more than what was not yet written.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from apps import jobs
from interp.files import write_json

EVERY = 0.25
"""Seconds between looks at whether a cancellation is asked for."""


def main(argv: Sequence[str]) -> int:
    """Run the job of a folder to its end and return its exit code."""
    path, workspace = Path(argv[0]), argv[1]
    try:
        with FileLock(path / jobs.LOCKED, timeout=5):
            return _run(path, workspace)
    except Timeout:
        return 2  # another supervisor has it


def _run(path: Path, workspace: str) -> int:
    job = jobs.read(path)
    command = [sys.executable, "-m", "interp", job.verb, f"--workspace={workspace}"]
    # A process started in the background may have been told to ignore Ctrl-C; its child may not.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout.write(f"$ {job.command}\n")
    sys.stdout.flush()
    child = subprocess.Popen(
        [*command, *job.arguments],
        stdin=subprocess.DEVNULL,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    state = {"pid": child.pid, "started": datetime.now(UTC).isoformat()}
    write_json(path / jobs.STATE, state)
    served = 0
    while True:
        try:
            code = child.wait(EVERY)
            break
        except subprocess.TimeoutExpired:
            asked = jobs.cancellations(path)
            if asked > served:
                (_interrupt if asked == 1 else subprocess.Popen.kill)(child)
                served = asked
    ended = {"ended": datetime.now(UTC).isoformat(), "code": code, "cancelled": served > 0}
    write_json(path / jobs.STATE, {**state, **ended})
    return code


def _interrupt(child: "subprocess.Popen[bytes]") -> None:
    """What Ctrl-C sends."""
    if sys.platform == "win32":
        child.send_signal(signal.CTRL_BREAK_EVENT)
    else:
        child.send_signal(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
