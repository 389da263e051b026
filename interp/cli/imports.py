"""``interp import``: make a store of activations that another program computed."""

import argparse
from typing import Any

from interp.cli.bars import bar
from interp.cli.flags import add_config, read_config
from interp.cli.say import say
from interp.workspace import Workspace

EXAMPLE = """\
  interp import acts.npy smollm2-135m resid_post.9 --out mine
  interp import acts.safetensors smollm2-135m resid_post.9 --key layer9 --token-ids tokens.npy"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    from interp.store.imports import ImportConfig

    parser.add_argument(
        "file", help="activations [rows, width]: .npy, .safetensors, or .pt with tensors alone"
    )
    parser.add_argument("model", help="name of the model they are of")
    parser.add_argument("site", help="short name of their site, such as resid_post.9")
    parser.add_argument("--key", default="", help="which array, if the file holds several")
    parser.add_argument("--token-ids", metavar="FILE", help="token id of each row, [rows]")
    parser.add_argument("--out", metavar="NAME", help="name of the store [the model's name]")
    add_config(parser, ImportConfig)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result."""
    from interp.capture.tables import open_table
    from interp.store.imports import ImportConfig, import_activations

    workspace = Workspace.at(args.workspace)
    config = read_config(ImportConfig, args)
    out = workspace.store(args.out or args.model)
    table = open_table(args.file, args.key)
    tokens = open_table(args.token_ids) if args.token_ids else None
    with bar(f"import {table.path.name}", "rows", args) as progress:
        store = import_activations(
            table,
            model=args.model,
            site=args.site,
            out=out,
            tokens=tokens,
            config=config,
            progress=progress,
        )
    heldout = int(store.heldout.sum())
    (site,) = store.sites.values()
    say(
        args,
        f"{store.name}: {store.rows:,} rows of {site.width} numbers at {site.name}, stored as "
        f"{store.manifest.dtypes[site.name]}, {heldout:,} held out; {store.path}",
    )
    return {
        "store": store.name,
        "path": str(store.path),
        "rows": store.rows,
        "width": site.width,
        "heldout_rows": heldout,
        "digest": store.digest,
    }
