"""``interp verify``: check an activation store byte by byte."""

import argparse
from pathlib import Path
from typing import Any

from interp.cli.say import say
from interp.errors import StoreCorrupt
from interp.workspace import Workspace

EXAMPLE = """\
  interp verify smollm2-135m"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    parser.add_argument("store", help="name of a store in the workspace, or its folder")


def store_path(workspace: Workspace, name: str) -> Path:
    """A store's folder from what a user typed: a path that exists, else a name."""
    path = Path(name)
    return path if path.is_dir() else workspace.store(name)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result; problems are an error."""
    from interp.store import verify

    path = store_path(Workspace.at(args.workspace), args.store)
    problems = verify(path)
    if problems:
        raise StoreCorrupt(f"{path} has {len(problems)} problem(s): " + "; ".join(problems))
    say(args, f"{path} is whole: every checksum, shape and length is as its manifest says")
    return {"store": str(path), "problems": []}
