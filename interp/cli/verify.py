"""``interp verify``: check an activation store byte by byte, and say which commands mend it."""

import argparse
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.cli.say import say
from interp.config import to_dict
from interp.errors import StoreCorrupt
from interp.workspace import Workspace

if TYPE_CHECKING:
    from interp.store import Manifest

EXAMPLE = """\
  interp verify smollm2-135m"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    parser.add_argument(
        "store",
        help="name of a store in the workspace, or its folder; if files are damaged, the commands "
        "that recapture just those are printed",
    )


def store_path(workspace: Workspace, name: str) -> Path:
    """A store's folder from what a user typed: a path that exists, else a name."""
    path = Path(name)
    return path if path.is_dir() else workspace.store(name)


def model_source(manifest: "Manifest") -> str:
    """What `load_model` takes for a store's model, which for a folder or file is not its name."""
    return str(manifest.provenance.get("config", {}).get("model", manifest.model))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result; problems are an error."""
    from interp.store import Manifest, verify
    from interp.store.verify import to_delete

    path = store_path(Workspace.at(args.workspace), args.store).resolve()
    problems = verify(path)
    if not problems:
        say(args, f"{path} is whole: every checksum, shape and length is as its manifest says")
        return {"store": str(path), "problems": []}
    again = making_command(path, Manifest.read(path))
    if again is not None and any("interp capture" in problem for problem in problems):
        delete = ["del" if os.name == "nt" else "rm", *map(str, to_delete(path, problems))]
        say(args, "these commands mend it:\n")
        for command in ([delete] if len(delete) > 1 else []) + [again]:
            say(args, f"  {shlex.join(command)}")
    raise StoreCorrupt(f"{path} has {len(problems)} problem(s): " + "; ".join(problems))


def making_command(path: Path, manifest: "Manifest") -> list[str] | None:
    """The command that made a store, told from its provenance.

    None if there is no such command: the store lies in no workspace or a script made it otherwise.
    """
    from interp.capture import CaptureConfig
    from interp.store.imports import ImportConfig

    asked: dict[str, Any] = manifest.provenance.get("config", {})
    job = manifest.provenance.get("job")
    if job not in ("capture", "import") or "model" not in asked or path.parent.name != "stores":
        return None
    if job == "capture":
        command = ["interp", "capture", asked["model"], *asked["sites"]]
        usual = {"corpus": "library", "model_dtype": "float32", **to_dict(CaptureConfig())}
    else:
        command = ["interp", "import", asked["source"], asked["model"], asked["site"]]
        usual = {"key": "", "token_ids": "", **to_dict(ImportConfig())}
    for name, value in usual.items():
        if name in asked and asked[name] != value:
            command += ["--" + name.replace("_", "-"), str(asked[name])]
    command += ["--out", path.name]
    if path.parent.parent != Workspace.at().root:
        command += ["--workspace", str(path.parent.parent)]
    return command
