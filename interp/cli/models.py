"""``interp models``: list, get, train and check models."""

import argparse
import dataclasses
import json
import math
from typing import Any

from interp.cli.bars import bar
from interp.cli.flags import add_config, add_place, read_config
from interp.cli.say import say, table
from interp.files import read_json
from interp.workspace import Workspace

EXAMPLE = """\
  interp models list
  interp models get smollm2-135m
  interp models train shakespeare-1l --steps 800
  interp models sites smollm2-135m
  interp models check smollm2-135m --model-dtype bfloat16
  interp models check ./tinyllama.Q4_0.gguf
  interp models sites EleutherAI/pythia-70m@step1000"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    from interp.models.shakespeare import ShakespeareConfig

    parser.add_argument(
        "action",
        choices=["list", "get", "train", "sites", "check"],
        help="list the known models; download one; train a toy one; list the sites of one; check "
        "that what is read at its sites is what their names say",
    )
    parser.add_argument(
        "name",
        nargs="?",
        help="the model, as `interp models list` prints it, a local folder, a GGUF file or a "
        "Hugging Face owner/name, with @REVISION for a branch, tag, commit or training checkpoint",
    )
    add_place(parser)
    parser.add_argument(
        "--model-dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16"],
        help="check: precision the model computes in [float32]",
    )
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
        say(args, "\nand any Hugging Face language model by name or local folder, or a GGUF file")
        return {"models": rows}
    if not args.name:
        raise ConfigError(f"interp models {args.action} needs a NAME; see interp models list")
    if args.action == "sites":
        model = load_model(
            args.name,
            workspace=workspace,
            device=args.device,
            device_map=args.device_map,
            revision=args.revision,
        )
        sites = model.sites()
        rows = [{"site": s.name, "width": s.width, "hook": s.hook} for s in sites.values()]
        table(args, rows)
        say(args, "\nof attn_z.N, attn_z.N.hM is head M alone")
        if model.encoder_decoder:
            say(args, "the decoder (dec.) reads its start token and then the encoder's window")
        return {"model": model.name, "sites": rows}
    if args.action == "check":
        return _check(args, workspace)
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


def _check(args: argparse.Namespace, workspace: Workspace) -> dict[str, Any]:
    """Check a model and return the outcomes; a failed check is an error."""
    from interp.errors import DataError
    from interp.models import load_model
    from interp.models.check import check_model

    model = load_model(
        args.name,
        workspace=workspace,
        device=args.device,
        dtype=args.model_dtype,
        device_map=args.device_map,
        revision=args.revision,
    )
    checks = check_model(model)
    words = {True: "ok", False: "FAILED", None: "-"}
    columns = [
        {
            "check": check.name,
            "result": words[check.passed],
            "measured": None if check.measured is None else float(check.measured),
            "at most": float(check.tolerance),
            "remedy": check.remedy,
        }
        for check in checks
    ]
    table(args, columns)
    found = [dataclasses.asdict(check) for check in checks]
    for row in found:  # JSON knows no infinity
        if row["measured"] is not None and not math.isfinite(row["measured"]):
            row["measured"] = None
    result = {"model": args.name, "dtype": args.model_dtype, "checks": found}
    failed = [check for check in checks if check.passed is False]
    if failed:
        if args.json:
            print(json.dumps(result, ensure_ascii=False))
        raise DataError(
            f"{len(failed)} of {len(checks)} checks of {args.name} failed: "
            + "; ".join(f"{check.name} ({check.remedy})" for check in failed)
        )
    say(args, f"\n{args.name} passed")
    return result


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
