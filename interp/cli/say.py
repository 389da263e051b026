"""What verbs print for people: plain aligned text on standard output, nothing with ``--json``."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any


def say(args: argparse.Namespace, text: str = "") -> None:
    """Print one line, unless the output is for machines."""
    if not args.json:
        print(text, flush=True)


def table(args: argparse.Namespace, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows under their keys; numbers to the right, text to the left."""
    if args.json or not rows:
        return
    keys = list(rows[0])
    cells = [[_cell(row.get(key)) for key in keys] for row in rows]
    numeric = [all(isinstance(row.get(key), int | float | None) for row in rows) for key in keys]
    widths = [max(len(key), *(len(line[i]) for line in cells)) for i, key in enumerate(keys)]

    def line(values: Sequence[str]) -> str:
        parts = (
            value.rjust(width) if number else value.ljust(width)
            for value, width, number in zip(values, widths, numeric, strict=True)
        )
        return "  ".join(parts).rstrip()

    print(line(keys))
    for values in cells:
        print(line(values))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return "-" if value != value else f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
