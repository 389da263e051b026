"""How the app is started: one Streamlit process that listens on this machine only.

python -m apps.launch --workspace activations --port 8501 [--no-browser]
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "browser.py"


def command(port: int = 8501, *, headless: bool = False) -> list[str]:
    """The command line of the app's process.

    Flags win over every configuration file, so nothing of the user's can open the port to a
    network or send usage statistics. The theme lies in ``apps/.streamlit/config.toml``.
    """
    flags = {
        "server.address": "127.0.0.1",
        "server.port": str(port),
        "server.headless": str(headless).lower(),
        "server.fileWatcherType": "none",
        "server.showEmailPrompt": "false",
        "browser.gatherUsageStats": "false",
        "browser.serverAddress": "localhost",
    }
    run = [sys.executable, "-m", "streamlit", "run", str(SCRIPT)]
    return run + [f"--{name}={value}" for name, value in flags.items()]


def environment(
    workspace: str | Path, inherited: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The process's environment: which workspace, and where the packages are."""
    values = dict(os.environ if inherited is None else inherited)
    values["INTERP_WORKSPACE"] = str(Path(workspace).resolve())
    path = [str(HERE.parent), *filter(None, values.get("PYTHONPATH", "").split(os.pathsep))]
    values["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path))
    return values


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or a termination signal; return the exit code."""
    parser = argparse.ArgumentParser(prog="apps.launch", description=__doc__)
    parser.add_argument("--workspace", default=os.environ.get("INTERP_WORKSPACE", "activations"))
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--no-browser", action="store_true", help="open no browser window")
    args = parser.parse_args(argv)
    line = command(args.port, headless=args.no_browser)
    values = environment(args.workspace)
    if os.name != "nt":  # become the server, so that signals reach it and nothing else remains
        os.execve(line[0], line, values)
    try:
        return subprocess.run(line, env=values, check=False).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
