"""``interp models``: list, get and train models."""

import argparse
from typing import Any

from interp.cli.bars import bar
from interp.cli.flags import add_config, read_config
from interp.cli.say import say, table
from interp.files import read_json
from interp.workspace import Workspace

EXAMPLE = """\
  interp models list
  interp models get smollm2-135m
  interp models train shakespeare-1l --steps 800
  interp models sites smollm2-135m"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    from interp.models.shakespeare import ShakespeareConfig

    parser.add_argument(
        "action",
        choices=["list", "get", "train", "sites"],
        help="list the known models; download one; train a toy one; list the sites of one",
    )
    parser.add_argument("name", nargs="?", help="the model, as `interp models list` prints it")
    add_config(parser, ShakespeareConfig)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result."""
    from interp.errors import ConfigError
    from interp.models import fetch_model, known_models, load_model
    from interp.models.shakespeare import NAME, ShakespeareConfig, train_shakespeare

    workspace = Workspace.at(args.workspace)
    if args.action == "list":
        rows = [
            {"model": name, "ready": ready, "what": what}
            for name, what, ready in known_models(workspace)
        ]
        table(args, [row | {"ready": "yes" if row["ready"] else "no"} for row in rows])
        say(args, "\nand any Hugging Face causal model by name or local folder")
        return {"models": rows}
    if not args.name:
        raise ConfigError(f"interp models {args.action} needs a NAME; see interp models list")
    if args.action == "sites":
        sites = load_model(args.name, workspace=workspace).sites()
        rows = [{"site": s.name, "width": s.width, "hook": s.hook} for s in sites.values()]
        table(args, rows)
        return {"model": args.name, "sites": rows}
    if args.action == "train":
        if args.name != NAME:
            raise ConfigError(f"{args.name!r} cannot be trained here; {NAME} can")
        with bar(f"train {args.name}", "steps", args) as progress:
            path = train_shakespeare(read_config(ShakespeareConfig, args), workspace, progress)
    else:
        with bar(f"get {args.name}", "B", args) as progress:
            path = fetch_model(args.name, workspace, progress)
    found = read_json(path / "model.json")
    _say_trained(args, found)
    say(args, f"{args.name} is ready in {path}")
    return {"model": args.name, "path": str(path), "heldout": found.get("heldout")}


def _say_trained(args: argparse.Namespace, found: dict[str, Any]) -> None:
    """What a model trained here has learnt: its loss and a sample before and after."""
    if "samples" not in found:
        return
    for when, text in found["samples"].items():
        # An untrained model also writes control characters, which a terminal would obey.
        clean = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
        say(args, f"--- {when} training\n{clean.strip()}\n")
    loss = found["heldout"]
    say(
        args,
        f"held-out loss {loss['loss']:.3f} nats a token, {loss['bits_per_byte']:.3f} bits a byte "
        f"(token frequency alone: {loss['unigram_loss']:.3f}, chance: {loss['uniform_loss']:.3f})",
    )
