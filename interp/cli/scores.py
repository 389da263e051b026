"""``interp scores``: the bases of a site side by side on every score."""

import argparse
from typing import Any

from interp.cli.say import say, table
from interp.workspace import Workspace

EXAMPLE = """\
  interp scores smollm2-135m resid_post.9
  interp scores shakespeare-1l mlp_post.0 --scores rule_auroc senses_effective"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    parser.add_argument("model", help="the model whose units are compared")
    parser.add_argument("site", help="the site, such as resid_post.9")
    parser.add_argument(
        "--scores", nargs="+", default=[], metavar="SCORE", help="which [all that compare purity]"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result."""
    from interp.features import open_units
    from interp.features.standing import side_by_side

    rows = side_by_side(
        open_units(Workspace.at(args.workspace), args.model, args.site), args.scores
    )
    table(args, [_shown(row) for row in rows])
    say(args)
    say(args, "Medians over scored units, with 95 % intervals. control: the share of random")
    say(args, "directions of like density that score lower; .5 is no different from them.")
    return {"scores": rows}


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("score", "purer", "basis", "scored")},
        "median": _value(row["median"], row["interval"]),
        "control": _value(row["control"], row["control_interval"]),
    }


def _value(median: float | None, interval: tuple[float, float] | None) -> str:
    if median is None or interval is None:
        return "-"
    return f"{median:.3g} [{interval[0]:.3g}, {interval[1]:.3g}]"
