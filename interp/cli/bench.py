"""``interp bench``: training steps side by side, ours and other trainers'."""

import argparse
from dataclasses import replace
from typing import Any

from interp.cli.bars import bar
from interp.cli.flags import add_config, read_config, several
from interp.cli.say import say, table
from interp.errors import ConfigError

EXAMPLE = """\
  interp bench --quick
  interp bench --kinds topk,batchtopk --latents 16384 --batch 2048
  interp bench --peers peers/bin/python --drivers tests/benchmarks/peers --out bench.json"""
QUICK = {"seconds": 2.0, "steps": 4, "batches": 4}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    from interp.sae.bench import KINDS, Contest

    parser.add_argument(
        "--kinds",
        type=several(str, list(KINDS)),
        metavar=f"{{{','.join(KINDS)}}}[,...]",
        default=list(KINDS),
        help="which architectures [all]",
    )
    parser.add_argument(
        "--peers",
        metavar="PYTHON",
        help="the Python of an environment with other trainers, to run beside ours [none]",
    )
    parser.add_argument(
        "--drivers",
        metavar="DIR",
        help="the folder with their drivers and peers.json; this project's source has one in "
        "tests/benchmarks/peers",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few seconds each: whether all runs, not how fast"
    )
    parser.add_argument("--out", metavar="FILE", help="also write the figures there, as JSON")
    add_config(parser, Contest)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the figures."""
    from dataclasses import asdict
    from pathlib import Path

    from interp.files import check_writable, write_json
    from interp.provenance import versions
    from interp.sae.bench import Contest, contest, drivers

    if (args.peers is None) != (args.drivers is None):
        raise ConfigError("--peers and --drivers belong together: a Python, and what it shall run")
    if args.out:
        check_writable(Path(args.out))
    settings = read_config(Contest, args)
    if args.quick:
        settings = replace(settings, **QUICK)
    peers = drivers(args.drivers, args.peers) if args.peers else []
    with bar("bench", "trainers", args) as progress:
        found = contest(settings, args.kinds, peers, progress)
    for kind in args.kinds:
        rows = [row for row in found if row["kind"] == kind]
        say(args, f"\n{kind}")
        table(args, [_row(row, rows) for row in rows if "error" not in row])
        for row in rows:
            if "error" in row:
                say(args, f"{row['trainer']} failed: {row['error']}")
    say(
        args,
        f"\nmedian step; held-out FVE after {settings.steps} steps and after "
        f"{settings.seconds:g} s of steps; memory over the bare process",
    )
    result = {"settings": asdict(settings), "versions": versions(), "figures": found}
    if args.out:
        write_json(Path(args.out), result)
    return result


def _row(row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    first = next(each["step_ms"] for each in rows if "error" not in each)
    return {
        "trainer": row["trainer"],
        "step ms": row["step_ms"],
        "times the first": first / row["step_ms"],
        "FVE, steps": row["fve_steps"],
        "FVE, time": row["fve_seconds"],
        "L0": row["l0"],
        "dead": row["dead"],
        "MB": row["memory_mb"],
    }
