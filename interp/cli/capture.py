"""``interp capture``: run a model over text and store its activations."""

import argparse
from typing import Any

from interp.cli.bars import bar
from interp.cli.flags import add_config, read_config
from interp.cli.say import say, table
from interp.workspace import Workspace

EXAMPLE = """\
  interp capture smollm2-135m resid_post.9 mlp_post.9 --tokens 300k --model-dtype bfloat16
  interp capture shakespeare-1l@0 mlp_post.0 --corpus shakespeare --tokens 1M"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    from interp.capture import CaptureConfig

    parser.add_argument("model", help="a model, see `interp models list`; NAME@STEP: a checkpoint")
    parser.add_argument("sites", nargs="+", metavar="SITE", help="sites such as resid_post.9")
    parser.add_argument(
        "--corpus", default="library", help="packaged corpus, file, folder or hf:DATASET [library]"
    )
    parser.add_argument("--out", metavar="NAME", help="name of the store [the model's name]")
    parser.add_argument(
        "--model-dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16"],
        help="precision the model computes in [float32]",
    )
    parser.add_argument("--device", help="cpu or cuda [cuda where there is one]")
    add_config(parser, CaptureConfig)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result."""
    from interp.capture import CaptureConfig, capture
    from interp.models import load_model

    workspace = Workspace.at(args.workspace)
    config = read_config(CaptureConfig, args)
    model = load_model(args.model, workspace=workspace, device=args.device, dtype=args.model_dtype)
    with bar(f"capture {args.model}", "tok", args) as progress:
        store = capture(
            model,
            args.sites,
            args.corpus,
            out=workspace.store(args.out or args.model),
            config=config,
            workspace=workspace,
            progress=progress,
        )
    table(args, [{"site": s.name, "width": s.width, "hook": s.hook} for s in store.sites.values()])
    sinks = int(store.sinks.sum())
    say(
        args,
        f"\n{store.name}: {store.rows:,} tokens of {len(store.documents):,} documents, "
        f"{int(store.heldout.sum()):,} held out, {sinks:,} attention sinks marked; {store.path}",
    )
    return {
        "store": store.name,
        "path": str(store.path),
        "tokens": store.rows,
        "documents": len(store.documents),
        "heldout_tokens": int(store.heldout.sum()),
        "sinks": sinks,
        "digest": store.digest,
    }
