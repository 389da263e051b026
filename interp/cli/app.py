"""``interp app``: browse the workspace in a web browser, on this machine only."""

import argparse
import os
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from typing import Any

from interp.cli.say import say
from interp.errors import ConfigError
from interp.workspace import Workspace

EXAMPLE = """\
  interp app
  interp app --port 8600 --no-browser"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    parser.add_argument("--port", type=int, default=8501, help="port on localhost [8501]")
    parser.add_argument(
        "--no-browser", action="store_true", help="print the address but open no browser window"
    )


def check_port(port: int) -> None:
    """Refuse a port that cannot be listened on.

    Raises:
        ConfigError: it is in use, or no port.
    """
    with socket.socket() as probe:
        if os.name != "nt":  # else a port just closed counts as in use for a minute
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"port {port} cannot be used, perhaps by an app that is open already at "
                f"http://localhost:{port}; close it or choose another with --port"
            ) from error


def start(workspace: Workspace, port: int, *, browser: bool) -> "subprocess.Popen[bytes]":
    """Start the app as a process of its own; it listens on 127.0.0.1 only.

    It is a module run by name: the command line stands below the app and cannot import it. The
    browser is opened from here: where Streamlit opens it, it also offers to install files of its
    own beside the app.
    """
    command = [sys.executable, "-m", "apps.launch", "--workspace", str(workspace.root)]
    process = subprocess.Popen([*command, "--port", str(port), "--no-browser"])
    if browser:
        threading.Thread(target=_open, args=(process, port), daemon=True).start()
    return process


def _open(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Open a browser window as soon as the app answers; none if it ends before."""
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            webbrowser.open(f"http://localhost:{port}")
            return


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Serve until Ctrl-C."""
    check_port(args.port)
    process = start(Workspace.at(args.workspace), args.port, browser=not args.no_browser)
    say(args, f"http://localhost:{args.port}  (Ctrl-C closes it)")
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.terminate()
        code = process.wait()
    return {"port": args.port, "exit": code}
