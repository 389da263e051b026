"""Ratios of ours to the plain way, both measured in turns within one run.

python -m tests.benchmarks [NAME ...]

Each pair does the same work. A ratio above 1 means ours is that much faster. Absolute times are
printed beside it; they depend on the machine and on what else it does, ratios much less.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import torch

from interp.sae.kernels import DenseBackend, Rule, SparseBackend, Weights
from interp.store.shuffle import ShuffledBatches
from tests.stores import make_store

ROUNDS = 5
Pair = tuple[str, Callable[[], object], Callable[[], object]]


@contextmanager
def training_step() -> Generator[Pair, None, None]:
    """One BatchTopK step, 1,024 rows of 576 into 4,608 latents, k = 32: index lists or autograd."""
    draw = torch.Generator().manual_seed(0)
    decoder = torch.nn.functional.normalize(torch.randn(4608, 576, generator=draw), dim=1)
    weights = Weights(decoder.clone(), torch.zeros(4608), decoder, torch.zeros(576))
    x = torch.randn(1024, 576, generator=draw)
    rule = Rule(k=32, per="batch", aux_k=0, aux_coefficient=0.0)
    ours, plain = SparseBackend(), DenseBackend()
    yield (
        "sparse step / dense autograd step",
        lambda: ours.step(weights, x, rule, 576.0),
        lambda: plain.step(weights, x, rule, 576.0),
    )


@contextmanager
def shuffled_reading() -> Generator[Pair, None, None]:
    """20 batches of 4,096 shuffled rows of 576: pools of whole runs, or h5py's fancy indexing."""
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(
            Path(folder) / "store",
            rows=120_000,
            sites={"resid_post.0": 576},
            documents=60,
            shard_rows=65_536,
        )
        shard = sorted(store.path.glob("*.h5"))[0]
        with h5py.File(shard) as file:
            found: list[h5py.Dataset] = []
            file.visititems(
                lambda name, each: (
                    found.append(each)
                    if isinstance(each, h5py.Dataset) and "resid_post" in name
                    else None
                )
            )
            (values,) = found
            draw = np.random.default_rng(0)

            def plain() -> None:
                for _ in range(20):
                    rows = np.sort(draw.choice(len(values), 4096, replace=False))
                    values[rows].astype(np.float32)

            def ours() -> None:
                batches = ShuffledBatches(store, "resid_post.0", batch=4096, seed=0)
                for _ in range(20):
                    next(batches)

            yield "shuffled batches / h5py fancy indexing", ours, plain


BENCHMARKS = {"step": training_step, "shuffle": shuffled_reading}


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
        with BENCHMARKS[name]() as (label, ours, plain):
            seconds(ours)
            seconds(plain)  # both are warm now
            pairs = [(seconds(ours), seconds(plain)) for _ in range(ROUNDS)]
        ratios = sorted(b / a for a, b in pairs)
        mine, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(
            f"{label}: {statistics.median(ratios):.2f} times as fast "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}); {mine * 1e3:.1f} ms and {theirs * 1e3:.1f} ms"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
