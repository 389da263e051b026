"""Progress bars with an ETA for people; silence when the output is for machines."""

import argparse
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn

from tqdm import tqdm

from interp.progress import Progress, silent


@contextmanager
def bar(label: str, unit: str, args: argparse.Namespace) -> Generator[Progress, None, None]:
    """A bar on standard error that appears with the first report.

    Without a terminal (a log file, a batch job) it prints a line every ten seconds instead of
    redrawing one.
    """
    if args.json:
        yield silent
        return
    bars: list[tqdm[NoReturn]] = []
    terminal = sys.stderr.isatty()
    started = last = time.monotonic()

    def report(done: int, total: int, note: str = "") -> None:
        nonlocal last
        if not terminal:
            now = time.monotonic()
            if now - last >= 10 or (done >= total and now - started > 2):
                last = now
                share = f"{done / max(total, 1):4.0%}"
                eta = (now - started) * (total - done) / max(done, 1)
                print(
                    f"{label}: {share} of {total:,} {unit}, {eta:.0f} s left  {note}",
                    file=sys.stderr,
                    flush=True,
                )
            return
        if not bars:
            bars.append(
                tqdm(
                    total=total, desc=label, unit=unit, unit_scale=True, leave=True, file=sys.stderr
                )
            )
        shown = bars[0]
        shown.total = total
        if note:
            shown.set_postfix_str(note, refresh=False)
        shown.update(done - shown.n)

    try:
        yield report
    finally:
        for shown in bars:
            shown.close()
