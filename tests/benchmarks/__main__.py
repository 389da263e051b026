"""Ratios of ours to the plain way, both measured in turns within one run.

python -m tests.benchmarks [NAME ...]

Each pair does the same work. A ratio above 1 means ours is that much faster. Absolute times are
printed beside it; they depend on the machine and on what else it does, ratios much less.
"""

import statistics
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch

from interp.sae.kernels import DenseBackend, Rule, SparseBackend, Weights
from tests.benchmarks import storing
from tests.benchmarks.pair import Pair

ROUNDS = 5


@contextmanager
def training_step() -> Generator[Pair, None, None]:
    """One BatchTopK step, 1,024 rows of 576 into 4,608 latents, k = 32: index lists or autograd."""
    draw = torch.Generator().manual_seed(0)
    decoder = torch.nn.functional.normalize(torch.randn(4608, 576, generator=draw), dim=1)
    weights = Weights(decoder.clone(), torch.zeros(4608), decoder, torch.zeros(576))
    x = torch.randn(1024, 576, generator=draw)
    rule = Rule(k=32, per="batch", aux_k=0, aux_coefficient=0.0)
    ours, plain = SparseBackend(), DenseBackend()
    yield Pair(
        "sparse step / dense autograd step",
        lambda: ours.step(weights, x, rule, 576.0),
        lambda: plain.step(weights, x, rule, 576.0),
    )


BENCHMARKS = {
    "step": training_step,
    "capture": storing.capturing_one,
    "capture3": storing.capturing_three,
    "write": storing.writing,
    "read": storing.reading,
    "read-cold": storing.reading_cold,
    "shuffle": storing.shuffled_reading,
    "shuffle-warm": storing.shuffled_reading_warm,
}


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"unknown benchmark {unknown[0]!r}; known: {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in names or BENCHMARKS:
        with BENCHMARKS[name]() as (label, ours, plain, amount, unit):
            seconds(ours)
            seconds(plain)  # both are warm now
            pairs = [(seconds(ours), seconds(plain)) for _ in range(ROUNDS)]
        ratios = sorted(b / a for a, b in pairs)
        mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        speed = f"; {amount / mine:,.0f} {unit}/s" if amount else ""
        print(
            f"{label}: {statistics.median(ratios):.2f} times as fast "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}); {mine * 1e3:.1f} ms and "
            f"{theirs * 1e3:.1f} ms{speed}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
