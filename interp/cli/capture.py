"""``interp capture``: run a model over text and store its activations."""

import argparse
import signal
from typing import TYPE_CHECKING, Any

from interp.cli.bars import bar
from interp.cli.flags import add_config, add_place, read_config
from interp.cli.say import say, table
from interp.workspace import Workspace

if TYPE_CHECKING:
    from interp.capture.ranks import Ranks

EXAMPLE = """\
  interp capture smollm2-135m resid_post.9 mlp_post.9 --tokens 300k --model-dtype bfloat16
  interp capture shakespeare-1l@0 mlp_post.0 --corpus shakespeare --tokens 1M
  interp capture smollm2-135m@random resid_post.9 --tokens 300k --model-dtype bfloat16"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    from interp.capture import CaptureConfig
    from interp.capture.ranks import TIMEOUT

    parser.add_argument(
        "model",
        help="a model, see `interp models list`, a folder, a GGUF file or a Hugging Face "
        "owner/name; NAME@STEP or owner/name@REVISION: a checkpoint; any of them @random: with "
        "random weights, as a control",
    )
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
    add_place(parser)
    parser.add_argument(
        "--rank-timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help="under torchrun or srun, whose processes share one capture: how long to wait for "
        f"another process of which nothing is seen [{TIMEOUT:g}]",
    )
    add_config(parser, CaptureConfig)


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Do it and return the result, of which only rank 0 has one."""
    from interp.capture import CaptureConfig, capture
    from interp.capture.ranks import Ranks
    from interp.models import load_model

    workspace = Workspace.at(args.workspace)
    config = read_config(CaptureConfig, args)
    ranks = Ranks.of_environment(timeout=args.rank_timeout)
    if ranks.world > 1:
        # The launcher ends all processes when one has ended; say what Ctrl-C says.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    model = load_model(
        args.model,
        workspace=workspace,
        device=args.device if args.device_map else _device(args.device, ranks),
        dtype=args.model_dtype,
        revision=args.revision,
        device_map=args.device_map,
    )
    with bar(f"capture {args.model}", "tok", args) as progress:
        store = capture(
            model,
            args.sites,
            args.corpus,
            out=workspace.store(args.out or model.name),
            config=config,
            workspace=workspace,
            progress=progress,
            ranks=ranks,
            source=model.name if args.revision else args.model,
        )
    if ranks.rank:
        return None  # rank 0 speaks for all
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


def _device(asked: str | None, ranks: "Ranks") -> str | None:
    """Each process of a host has a GPU of its own, as far as they go."""
    import torch

    if ranks.world == 1 or asked not in (None, "cuda") or not torch.cuda.is_available():
        return asked
    return f"cuda:{ranks.local % torch.cuda.device_count()}"
