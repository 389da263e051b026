"""``interp lab``: reproduce published results where the truth is known."""

import argparse
from collections.abc import Mapping
from typing import Any

from interp.cli.bars import bar
from interp.cli.flags import count
from interp.cli.say import say, table
from interp.workspace import Workspace

EXAMPLE = """\
  interp lab list
  interp lab run pentagon --quick
  interp lab run phase-diagram --full --seeds 5
  interp lab table"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    parser.add_argument(
        "action",
        choices=["list", "run", "table"],
        help="list the published results; reproduce one, or `all`; show what came out so far",
    )
    parser.add_argument("name", nargs="?", help="run: the result, as `interp lab list` prints it")
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument(
        "--quick",
        dest="effort",
        action="store_const",
        const="quick",
        help="run: under three minutes on one core [this]",
    )
    effort.add_argument(
        "--full", dest="effort", action="store_const", const="full", help="run: as published"
    )
    parser.set_defaults(effort="quick")
    parser.add_argument(
        "--seeds", type=count, metavar="N", help="run: measure with seeds 0 to N-1 [the result's]"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result; a reproduction that fails is a result too."""
    from interp.errors import ConfigError
    from interp.lab import experiments, find_experiment, reproduce, reproduced, with_seeds

    workspace = Workspace.at(args.workspace)
    if args.action == "list":
        rows = [{"result": n, "paper": e.paper, "claim": e.claim} for n, e in experiments().items()]
        table(args, rows)
        return {"results": rows}
    if args.action == "table":
        found = reproduced(workspace)
        rows = [row for name, content in found.items() for row in _rows(name, content)]
        table(args, rows)
        return {"results": found, "rows": rows}
    if args.name is None:
        raise ConfigError("`interp lab run` needs the name of a result; `interp lab list` has them")
    names = list(experiments()) if args.name == "all" else [args.name]
    chosen = [with_seeds(find_experiment(name).at(args.effort), args.seeds) for name in names]
    results: list[dict[str, Any]] = []
    for experiment in chosen:
        with bar(experiment.name, "%", args) as progress:
            result = reproduce(
                experiment, effort=args.effort, workspace=workspace, progress=progress
            )
        results.append(result.to_dict())
        say(args, f"{experiment.name}: {experiment.paper}. {experiment.claim}")
        setting = ", ".join(f"{key} {value}" for key, value in result.setting.items())
        say(args, f"setting ({args.effort}): {setting}")
        table(args, list(_rows(experiment.name, results[-1])))
        say(args, f"{workspace.lab(experiment.name)}")
    return {"results": results}


def _rows(name: str, content: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """One line a check; one line that says so for a result that was not run."""
    if content is None:
        keys = ("expected", "accepted", "measured", "spread", "seeds")
        empty: dict[str, Any] = dict.fromkeys(keys)
        return [{"result": name, "quantity": None, **empty, "verdict": "not run"}]
    return [
        {
            "result": name,
            "quantity": check["quantity"],
            "expected": check["expected"],
            "accepted": _range(check["low"], check["high"]),
            "measured": check["mean"],
            "spread": check["spread"],
            "seeds": len(check["values"]),
            "verdict": f"{_verdict(check)} ({content['effort']})",
        }
        for check in content["checks"]
    ]


def _verdict(check: Mapping[str, Any]) -> str:
    if check["passed"]:
        return "pass"
    below = check["low"] is not None and check["mean"] < check["low"]
    return "FAIL, below" if below else "FAIL, above"


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:.4g}"
    return f"at least {low:.4g}" if high is None else f"{low:.4g} to {high:.4g}"
