"""``interp evaluate``: judge a dictionary on held-out text."""

import argparse
from typing import Any

from interp.cli.bars import bar
from interp.cli.say import say
from interp.cli.verify import model_source, store_path
from interp.workspace import Workspace

EXAMPLE = """\
  interp evaluate smollm2-135m resid_post.9 batchtopk-4608-k32-s0 --windows 64"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    parser.add_argument("store", help="name of a store in the workspace, or its folder")
    parser.add_argument("site", help="a site of that store, such as resid_post.9")
    parser.add_argument("dictionary", help="name of a dictionary of that site")
    parser.add_argument(
        "--windows", type=int, default=128, help="held-out windows for downstream loss [128]"
    )
    parser.add_argument(
        "--model-dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16"],
        help="precision the model computes in [float32]",
    )
    parser.add_argument("--device", help="cpu or cuda [cuda where there is one]")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result."""
    from interp.errors import UnknownName
    from interp.evaluate import evaluate, table
    from interp.models import load_model
    from interp.sae import load_dictionary
    from interp.store import ActivationStore

    workspace = Workspace.at(args.workspace)
    store = ActivationStore.open(store_path(workspace, args.store))
    path = workspace.dictionary(store.model, args.site, args.dictionary)
    known = [found.parent.name for found in path.parent.glob("*/weights.safetensors")]
    if args.dictionary not in known:
        remedy = f"`interp train {args.store} {args.site}` makes one."
        raise UnknownName("dictionary", args.dictionary, known, remedy)
    dictionary = load_dictionary(path, device=args.device or "cpu")
    source = model_source(store.manifest)
    model = load_model(source, workspace=workspace, device=args.device, dtype=args.model_dtype)
    with bar(f"evaluate {args.dictionary}", "windows", args) as progress:
        report = evaluate(
            dictionary, store, model, folder=path, windows=args.windows, progress=progress
        )
    say(args, table([report]))
    return {"dictionary": args.dictionary, "metrics": report.to_dict()}
