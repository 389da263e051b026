"""``interp units``: list the units of a site, sorted by any column."""

import argparse
from typing import Any

from interp.cli.say import table
from interp.workspace import Workspace

EXAMPLE = """\
  interp units smollm2-135m resid_post.9
  interp units smollm2-135m resid_post.9 --sort senses_effective --ascending
  interp units shakespeare-1l mlp_post.0 --basis neurons --sort density --ascending --rows 50"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    parser.add_argument("model", help="the model whose units are listed")
    parser.add_argument("site", help="the site, such as resid_post.9")
    parser.add_argument("--basis", help="one basis only [all of the site]")
    parser.add_argument(
        "--sort",
        default="monosemanticity",
        help="any column of the tables, such as rule_auroc [monosemanticity]",
    )
    parser.add_argument("--ascending", action="store_true", help="smallest first")
    parser.add_argument("--rows", type=int, default=20, help="how many [20]")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result."""
    from interp.features import open_units

    units = open_units(Workspace.at(args.workspace), args.model, args.site, args.basis)
    rows = units.sort(args.sort, ascending=args.ascending).rows(args.rows)
    table(args, rows)
    return {"units": rows}
