"""``interp lab``: reproduce published results where the truth is known."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from interp.cli.bars import bar
from interp.cli.flags import count
from interp.cli.labjobs import cores, one_thread, run_apart, together
from interp.cli.say import say, table
from interp.workspace import Workspace

EXAMPLE = """\
  interp lab list
  interp lab run pentagon --quick
  interp lab run phase-diagram --full --seeds 5
  interp lab run all
  interp lab table
  interp lab table --markdown"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    parser.add_argument(
        "action",
        choices=["list", "run", "table"],
        help="list the published results; reproduce some, or `all`; show what came out so far",
    )
    parser.add_argument(
        "name", nargs="*", help="run: results, as `interp lab list` prints them, or all"
    )
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
    parser.add_argument(
        "--jobs",
        type=count,
        metavar="N",
        help="run: so many at a time, where several are asked for [one a processor core]",
    )
    parser.add_argument(
        "--markdown", action="store_true", help="table: as Markdown, with the papers"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result; a reproduction that fails is a result too."""
    if args.action == "run":
        one_thread()
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
        if args.markdown:
            for line in _markdown(rows):
                say(args, line)
        else:
            table(args, rows)
        return {"results": found, "rows": rows}
    if not args.name:
        raise ConfigError("`interp lab run` needs the name of a result; `interp lab list` has them")
    names = list(experiments()) if args.name == ["all"] else args.name
    chosen = [with_seeds(find_experiment(name).at(args.effort), args.seeds) for name in names]
    groups = together(chosen)
    jobs = min(args.jobs or cores(), len(groups))
    results: list[dict[str, Any]] = []

    def done(result: dict[str, Any]) -> None:
        results.append(result)
        name = result["name"]
        say(args, f"{name}: {result['paper']}. {result['claim']}")
        setting = ", ".join(f"{key} {value}" for key, value in result["setting"].items())
        say(args, f"setting ({args.effort}): {setting}")
        table(args, list(_rows(name, result)))
        say(args, f"{workspace.lab(name)}")

    if jobs > 1:
        with bar("lab", "results", args) as progress:

            def counted(result: dict[str, Any]) -> None:
                done(result)
                progress(len(results), len(chosen), result["name"])

            run_apart(groups, jobs, args, workspace, counted)
        return {"results": results}
    for experiment in chosen:
        with bar(experiment.name, "%", args) as progress:
            result = reproduce(
                experiment, effort=args.effort, workspace=workspace, progress=progress
            )
        done(result.to_dict())
    return {"results": results}


def _rows(name: str, content: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """One line a quantity; one line that says so for a result that was not run."""
    keys = ("result", "quantity", "expected", "accepted", "measured", "spread", "seeds")
    empty: dict[str, Any] = {**dict.fromkeys(keys), "result": name, "verdict": "not run", "why": ""}
    if content is None:
        return [empty]
    return [
        {
            **empty,
            "quantity": each["quantity"],
            "expected": each.get("expected"),
            "accepted": _range(each["low"], each["high"]) if "low" in each else "anything",
            "measured": each["mean"],
            "spread": each["spread"],
            "seeds": len(each["values"]),
            "verdict": f"{_verdict(each)} ({content['effort']})",
            "why": each.get("why", ""),
        }
        for each in [*content["checks"], *content.get("reported", [])]
    ]


def _verdict(each: Mapping[str, Any]) -> str:
    if "passed" not in each:
        return "reported"
    if each["passed"]:
        return "pass"
    below = each["low"] is not None and each["mean"] < each["low"]
    return "FAIL, below" if below else "FAIL, above"


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high:.4g}"
    return f"at least {low:.4g}" if high is None else f"{low:.4g} to {high:.4g}"


def _markdown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table with its papers, a result's name and paper on its first line."""
    from interp.lab import experiments

    known = experiments()
    lines = [
        "| result | paper | quantity | expected | accepted | measured | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    last = None
    for row in rows:
        name = row["result"]
        first = ("", "") if name == last else (f"`{name}`", known[name].paper)
        expected, measured = (_number(row[key]) for key in ("expected", "measured"))
        verdict = ": ".join(part for part in (row["verdict"], row["why"]) if part)
        cells = (*first, row["quantity"] or "", expected, row["accepted"] or "", measured, verdict)
        lines.append(f"| {' | '.join(_escaped(cell) for cell in cells)} |")
        last = name
    return lines


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _escaped(cell: str) -> str:
    return cell.replace("|", r"\|")
