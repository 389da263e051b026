"""``interp extract``: measure the units of neurons, dictionaries and controls."""

import argparse
from typing import Any

from interp.cli.bars import bar
from interp.cli.flags import add_config, read_config
from interp.cli.say import say, table
from interp.cli.stores import open_store
from interp.cli.verify import model_source
from interp.progress import silent
from interp.workspace import Workspace

EXAMPLE = """\
  interp extract smollm2-135m resid_post.9
  interp extract shakespeare-1l mlp_post.0 --bases neurons batchtopk-4096-k16-s0
  interp extract smollm2-135m resid_post.9 --activations     # for interp find"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    from interp.features import ExtractConfig

    parser.add_argument(
        "store",
        help="name of a store in the workspace, or its folder; two of the same rows joined by +",
    )
    parser.add_argument("site", help="a site of that store, such as resid_post.9")
    parser.add_argument(
        "--bases",
        nargs="+",
        metavar="BASIS",
        help="neurons, random, and names of dictionaries and fitted bases [all that the site has]",
    )
    parser.add_argument(
        "--no-model", action="store_true", help="leave out the logit lens, which needs the model"
    )
    parser.add_argument(
        "--activations",
        action="store_true",
        help="keep every activation of the bases that are sparse, for `interp find`",
    )
    parser.add_argument("--device", help="cpu or cuda [cuda where there is one]")
    add_config(parser, ExtractConfig)


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Do it and return the result, of which only rank 0 has one."""
    from interp.capture.ranks import Ranks
    from interp.errors import UnknownName
    from interp.features import ExtractConfig, extract, find_bases
    from interp.models import load_model
    from interp.store import PairedStore

    workspace = Workspace.at(args.workspace)
    ranks = Ranks.of_environment()
    store = open_store(workspace, args.store)
    config = read_config(ExtractConfig, args)
    bases = find_bases(store, args.site, args.bases, workspace, seed=config.seed)
    source = model_source(store.manifest)
    paired = isinstance(store, PairedStore)
    if paired:
        say(args, f"{store.name} is of two models: no promoted tokens, as by --no-model")
    try:
        alone = args.no_model or paired
        model = None if alone else load_model(source, workspace=workspace)
    except UnknownName:
        if store.manifest.model_digest:
            raise
        # Imported activations name any model; only some of those names can be loaded.
        say(args, f"{source} is no model that can be loaded: no promoted tokens, as by --no-model")
        model = None
    with bar(f"extract {args.site}", "rows", args) as progress:
        units = extract(
            bases,
            store,
            model=model,
            config=config,
            workspace=workspace,
            activations=args.activations,
            ranks=(ranks.rank, ranks.world),
            progress=silent if ranks.rank else progress,
        )
    if ranks.rank:
        return None  # rank 0 speaks for all
    rows = units.summary()
    table(args, rows)
    first = units.tables[0]
    say(args, f"\nnow: interp units {first.model} {first.site}, or interp app")
    return {"tables": rows}
