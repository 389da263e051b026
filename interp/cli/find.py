"""``interp find``: every place where a unit is active."""

import argparse
from typing import Any

from interp.cli.say import say, table
from interp.workspace import Workspace

EXAMPLE = """\
  interp find smollm2-135m/resid_post.9/batchtopk-4608-k32-s0/812
  interp find smollm2-135m/resid_post.9/batchtopk-4608-k32-s0/812 --pattern 'New (York|Jersey)'
  interp find shakespeare-1l/mlp_post.0/batchtopk-2048-k16-s0/7 --by-row --rows 1000 --json"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    parser.add_argument(
        "unit",
        help="address of a unit, model/site/basis/index, of a basis extracted with --activations",
    )
    parser.add_argument(
        "--pattern", default="", metavar="REGEX", help="only where this is found in the text shown"
    )
    parser.add_argument("--before", type=int, default=24, help="tokens shown before [24]")
    parser.add_argument("--after", type=int, default=8, help="tokens shown behind [8]")
    parser.add_argument(
        "--by-row", action="store_true", help="in order of the text [strongest first]"
    )
    parser.add_argument("--rows", type=int, default=20, help="how many are listed [20]")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result."""
    from interp.errors import ConfigError
    from interp.features import Address, UnitActivations, places
    from interp.features.activations import activations_path
    from interp.store import ActivationStore

    if min(args.before, args.after, args.rows) < 0:
        raise ConfigError("--before, --after and --rows must not be negative")
    workspace = Workspace.at(args.workspace)
    address = Address.parse(args.unit)
    path = workspace.units(address.model, address.site, address.basis)
    activations = UnitActivations.open(activations_path(path))
    store = ActivationStore.open(workspace.store(activations.store))
    found = list(
        places(
            activations,
            store,
            address.index,
            pattern=args.pattern,
            before=args.before,
            after=args.after,
            strongest_first=not args.by_row,
        )
    )
    rows = [
        {
            "row": place.row,
            "value": place.value,
            "document": store.documents[place.document].title,
            "before": place.before,
            "token": place.token,
            "after": place.after,
        }
        for place in found[: args.rows]
    ]
    table(args, [_line(row) for row in rows])
    say(args, f"\n{len(found):,} places, {len(rows):,} listed")
    return {"unit": str(address), "places": len(found), "listed": rows}


def _line(row: dict[str, Any]) -> dict[str, Any]:
    """A place on one line, the token in brackets."""
    text = f"{row['before']}⟦{row['token']}⟧{row['after']}"
    shown = {"row": row["row"], "value": row["value"], "document": row["document"]}
    return shown | {"text": text.translate({10: "↵", 9: "⇥", 13: "␍"})}
