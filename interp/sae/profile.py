"""Where a training step's time goes, and how near it comes to what the machine allows.

A step cannot be done in less than

    bound = 2·n·d·F / (measured product speed)  +  4·(n·d + 12·F·d) / (measured memory speed)

seconds in float32: the encoder's product of n rows of width d with F latents, and one reading of
the batch, one reading and writing of both weight matrices and of Adam's two moments of each. All
else, such as selection, decoding and gradients, counts as if it cost nothing, so that no step
reaches 1. Both speeds are measured on the spot: the product by chunks of the batch, as the kernels
multiply, or as the steps themselves did it where they were faster; the memory by adding two long
arrays into a third.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from interp.products import faster_products
from interp.sae.kernels.scratch import CHUNK

PARTS = {
    "data": "data",
    "encode": "encode",
    "rounding": "select",
    "select": "select",
    "search": "select",
    "seek": "select",
    "above": "select",
    "count": "select",
    "collect": "select",
    "reconstruct": "reconstruct",
    "explain": "reconstruct",
    "sort": "gather",
    "gather": "gather",
    "dense": "dense",
    "optimiser": "update",
}
"""The part of the report that each part counted belongs to; what is left is ``other``."""


def split(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Milliseconds a step by part, and the whole: means over all steps but the first.

    The first loads machine code and asks for memory, unless it is the only one.
    """
    counted = steps[1:] or steps
    sums: dict[str, float] = defaultdict(float)
    for step in counted:
        for part, seconds in step.items():
            if part in PARTS:
                sums[PARTS[part]] += seconds
    whole = sum(step["whole"] for step in counted)
    sums["other"] = whole - sum(sums.values())
    return {
        part: 1e3 * seconds / len(counted) for part, seconds in {**sums, "whole": whole}.items()
    }


def profile(
    steps: Sequence[Mapping[str, float]], rows: int, d_in: int, latents: int
) -> dict[str, Any]:
    """A run's report: `split`, `bound`, and the share of the bound that the steps reached.

    Args:
        steps: what `interp.sae.kernels.clock` counted.
        rows: of a batch.
        d_in: their width.
        latents: of the dictionary.
    """
    parts = split(steps)
    whole = parts.pop("whole")
    encode = 0.0 if "dense" in parts else parts.get("encode", 0.0) / 1e3  # dense steps lack it
    reached = 2 * rows * d_in * latents / encode if encode else 0.0
    least = bound(rows, d_in, latents, reached)
    share = least["bound_ms"] / whole
    return {"steps": len(steps), "step_ms": whole, "parts_ms": parts, **least, "reached": share}


def bound(rows: int, d_in: int, latents: int, seen: float = 0.0) -> dict[str, float]:
    """The least milliseconds of a step here, with the two speeds it is computed from.

    ``seen`` are operations a second that the product is known to have reached: on a busy machine
    more than what is measured on the spot.
    """
    speed, memory = max(product_speed(rows, d_in, latents), seen), memory_speed()
    numbers = rows * d_in + 12 * latents * d_in
    seconds = 2 * rows * d_in * latents / speed + 4 * numbers / memory
    return {"bound_ms": 1e3 * seconds, "gflops": speed / 1e9, "gigabytes": memory / 1e9}


def product_speed(rows: int, d_in: int, latents: int) -> float:
    """Float operations a second of the encoder's product in float32."""
    chunk = min(rows, CHUNK // 4)
    x, encoder = torch.randn(chunk, d_in), torch.randn(latents, d_in)
    out = torch.empty(chunk, latents)
    with faster_products():
        return 2 * chunk * d_in * latents / _fastest(lambda: torch.mm(x, encoder.T, out=out))


def memory_speed(megabytes: int = 192) -> float:
    """Bytes a second that go through memory when two arrays are added into a third."""
    one = torch.ones(megabytes * 2**20 // 12)
    two, out = torch.ones_like(one), torch.empty_like(one)
    return 12 * len(one) / _fastest(lambda: torch.add(one, two, out=out))


def _fastest(work: Callable[[], object], rounds: int = 7) -> float:
    """Seconds: the median of the faster half, since other work on the machine only slows down."""
    taken: list[float] = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(sorted(taken[1:])[: rounds // 2 + 1])
