"""``interp fit``: fit classical baselines to stored activations."""

import argparse
from typing import Any

from interp.cli.bars import bar
from interp.cli.flags import add_config, read_config, several
from interp.cli.say import say, table
from interp.cli.verify import store_path
from interp.workspace import Workspace

EXAMPLE = """\
  interp fit smollm2-135m resid_post.9 --basis pca,ica
  interp fit shakespeare-1l mlp_post.0 --basis nmf --components 128 --k 16"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    from interp.features.fit import FitConfig
    from interp.features.fitted import KINDS

    parser.add_argument("store", help="name of a store in the workspace, or its folder")
    parser.add_argument("site", help="a site of that store, such as resid_post.9")
    parser.add_argument(
        "--basis",
        type=several(str, list(KINDS)),
        metavar=f"{{{','.join(KINDS)}}}[,...]",
        default=["pca"],
        help="which, several between commas; nmf where no activation is negative [pca]",
    )
    add_config(parser, FitConfig)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result."""
    from interp.features.fit import FitConfig, fit_basis
    from interp.features.fitted_files import save_basis
    from interp.store import ActivationStore

    workspace = Workspace.at(args.workspace)
    store = ActivationStore.open(store_path(workspace, args.store))
    config = read_config(FitConfig, args)
    rows: list[dict[str, Any]] = []
    for kind in args.basis:
        with bar(f"fit {kind} {args.site}", "iterations", args) as progress:
            fit = fit_basis(store, args.site, kind, config, progress=progress)
        basis = fit.basis
        save_basis(fit, workspace.basis(store.model, basis.site, basis.name))
        rows.append(
            {
                "basis": basis.name,
                "components": len(basis.components),
                "rows": fit.rows,
                "iterations": fit.iterations,
                "converged": "yes" if fit.converged else "no",
            }
        )
    table(args, rows)
    say(args, f"\nnow: interp extract {args.store} {args.site}, or interp evaluate")
    return {"bases": rows}
