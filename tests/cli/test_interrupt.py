"""Ctrl-C while modules are imported: it is served, and as soon as they are whole."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from interp.cli import interrupt

# What compiled modules do with an exception that reaches them while they import.
SWALLOWS = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(10000): pass
    WHOLE = True
except BaseException:
    pass
"""


def run(folder: Path, code: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{Path.cwd()}"},
    )


@pytest.mark.parametrize("waits", [True, False], ids=["waits", "default"])
def test_an_interrupt_within_an_import_is_served_after_it(tmp_path, waits):
    (tmp_path / "swallows.py").write_text(SWALLOWS)
    done = run(
        tmp_path,
        f"""
        import time
        from interp.cli import interrupt
        {"interrupt.wait_for_imports()" if waits else ""}
        try:
            import swallows
            print("whole", hasattr(swallows, "WHOLE"))
            time.sleep(5)
            print("lost")
        except KeyboardInterrupt:
            print("interrupted")
        """,
    )
    assert done.stdout.split("\n")[:2] == (
        ["whole True", "interrupted"] if waits else ["whole False", "lost"]
    )


def test_outside_imports_it_is_served_at_once(tmp_path):
    done = run(
        tmp_path,
        """
        import signal
        from interp.cli import interrupt
        interrupt.wait_for_imports()
        try:
            signal.raise_signal(signal.SIGINT)
            print("late")
        except KeyboardInterrupt:
            print("at once")
        """,
    )
    assert done.stdout == "at once\n"


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None], ids=["ignored", "another"])
def test_who_serves_it_otherwise_goes_on_serving_it(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        interrupt.wait_for_imports()
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
