"""Ratios of ours to the plain way, both measured in turns within one run.

python -m tests.benchmarks [NAME ...]

Each pair does the same work. A ratio above 1 means ours is that much faster. Absolute times are
printed beside it; they depend on the machine and on what else it does, ratios much less, and the
ratio of the processors' time of all threads least.

python -m tests.benchmarks saelens-write saelens-read saelens-batches

Beside a peer, by name only: it needs an environment of its own (tests/benchmarks/peers/README.md).

python -m tests.benchmarks recovery [--full] [--data-init P]

The table of `tests.benchmarks.recovery`: minutes, so it runs only by name.

python -m tests.benchmarks step

A training step by every backend: `tests.benchmarks.step`, which also runs with all the others.

python -m tests.benchmarks together [--quick]

Eight dictionaries over one reading of the data: `tests.benchmarks.together`.

python -m tests.benchmarks peers [--quick] [flags of `interp bench`]

Whole training steps beside other trainers: `tests.benchmarks.beside`, about 25 minutes.

python -m tests.benchmarks memory [--quick]

Resident memory of a capture of ten times as many tokens: `tests.benchmarks.memory`.

python -m tests.benchmarks trainer [--quick] [--out FOLDER]

All that is asked of a training step, as one table: `tests.benchmarks.trainer`, about 60 minutes.

python -m tests.benchmarks quality STORE SITE [flags]

What dictionaries are worth beside the peers' at equal steps: `tests.benchmarks.quality`.

python -m tests.benchmarks dashboards [STORE DICTIONARY]

Units a second of `interp extract` beside SAEDashboard: `tests.benchmarks.dashboards`.

python -m tests.benchmarks gpu

The same at an H200's size, on a GPU: `tests.benchmarks.gpu`, by name only.
"""

import statistics
import sys
import time
from collections.abc import Callable

from tests.benchmarks import (
    beside,
    dashboards,
    gpu,
    memory,
    quality,
    recovery,
    step,
    storing,
    together,
    trainer,
)

ROUNDS = 5


BENCHMARKS = {
    "capture": storing.capturing_one,
    "capture3": storing.capturing_three,
    "write": storing.writing,
    "read": storing.reading,
    "read-cold": storing.reading_cold,
    "shuffle": storing.shuffled_reading,
    "shuffle-warm": storing.shuffled_reading_warm,
}
BESIDE_PEERS = {
    "saelens-write": storing.saelens_writing,
    "saelens-read": storing.saelens_reading,
    "saelens-batches": storing.saelens_batches,
}


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of all processors, which neighbours on the machine lengthen less."""
    before = time.process_time()
    taken = seconds(work)
    return taken, time.process_time() - before


def main(names: list[str]) -> int:
    if names[:1] == ["recovery"]:
        recovery.main(names[1:])
        return 0
    if names in (["together"], ["together", "--quick"]):
        together.main(quick="--quick" in names)
        return 0
    if names[:1] == ["peers"]:
        return beside.main(names[1:])
    if names in (["memory"], ["memory", "--quick"]):
        return memory.main(quick="--quick" in names)
    if names[:1] == ["trainer"]:
        return trainer.main(names[1:])
    if names[:1] == ["quality"]:
        return quality.main(names[1:])
    if names[:1] == ["dashboards"]:
        dashboards.main(names[1:])
        return 0
    if names == ["gpu"]:
        gpu.main()
        return 0
    if not names or names == ["step"]:
        step.main()
        if names:
            return 0
    benchmarks = {**BENCHMARKS, **BESIDE_PEERS}
    unknown = [name for name in names if name not in benchmarks]
    if unknown:
        known = ", ".join(
            [
                *benchmarks,
                "recovery, step, together, memory, peers, trainer, quality, dashboards and gpu,"
                " each alone",
            ]
        )
        print(f"unknown benchmark {unknown[0]!r}; known: {known}", file=sys.stderr)
        return 2
    for name in names or BENCHMARKS:
        with benchmarks[name]() as (label, ours, plain, amount, unit):
            seconds(ours)
            seconds(plain)  # both are warm now
            pairs = [(spent(ours), spent(plain)) for _ in range(ROUNDS)]
        ratios = sorted(b[0] / a[0] for a, b in pairs)
        mine, theirs = (
            statistics.median(s for s, _ in column) for column in zip(*pairs, strict=True)
        )
        speed = f"; {amount / mine:,.0f} {unit}/s" if amount else ""
        if name not in BESIDE_PEERS:  # whose work is another process'
            speed += f"; by processors' time {statistics.median(b[1] / a[1] for a, b in pairs):.2f}"
        print(
            f"{label}: {statistics.median(ratios):.2f} times as fast "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}); {mine * 1e3:.1f} ms and "
            f"{theirs * 1e3:.1f} ms{speed}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
