"""A whole TopK training step on a GPU at the size that an H200 is for, by each backend in turns.

python -m tests.benchmarks gpu

8,192 rows of 2,304 into 65,536 latents, k = 64, optimiser included. Beside the times stands the
ideal of the same work: what its products and its bytes take at the speeds of an H200's library
(`FLOPS`, `BYTES`), each number moved once. Medians of interleaved rounds, timed by the device.
"""

import statistics
from collections.abc import Callable

import torch
from torch.nn.functional import normalize

from interp.sae.kernels import Backend, Rule, Weights, backends

ROWS, D_IN, LATENTS, K = 8192, 2304, 65536, 64
ROUNDS = 11
RULE = Rule(k=K, per="row", aux_k=0, aux_coefficient=0.0)
FLOPS, BYTES = 790e12, 4.3e12
"""A second: bfloat16 products of random numbers, and copied memory, counting both ways."""
NAMES = {
    "sparse": "plain torch, sparse, fp32",
    "triton": "Triton, fp32",
    "triton-bfloat16": "Triton, bfloat16 factors",
}


def ideal() -> dict[str, float]:
    """Seconds that each part takes at least, in bfloat16 with single-precision masters."""
    entries, weights = ROWS * K, 2 * LATENTS * D_IN
    gathered = entries * D_IN * 2 / BYTES
    return {
        "encode": 2 * ROWS * D_IN * LATENTS / FLOPS,
        "top-k": 2 * ROWS * LATENTS * 2 / BYTES,  # bfloat16, written and read once
        "decode": gathered,
        "value gradients": gathered / 2,  # the L2 cache has these rows
        "sort": 0.1e-3,
        "weight gradients": 2 * gathered,
        "Adam": weights * (6 * 4 + 2) / BYTES,  # weight, m, v both ways, and a bfloat16 copy
    }


def training(backend: Backend, x: torch.Tensor) -> Callable[[], object]:
    """Step and update, the update in one pass where the backend is Triton's."""
    from interp.sae.kernels.tritonupdate import update
    from interp.sae.kernels.update import Adam

    g = torch.Generator(x.device).manual_seed(1)
    decoder = normalize(torch.randn(LATENTS, D_IN, generator=g, device=x.device))
    zeros = (torch.zeros(size, device=x.device) for size in (LATENTS, D_IN))
    weights = Weights(decoder.clone(), next(zeros), decoder, next(zeros))
    moments = [(torch.zeros_like(t), torch.zeros_like(t)) for _, t in weights.items()]
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        gradients = backend.step(weights, x, RULE, D_IN).gradients
        pairs = zip(weights.items(), gradients.items(), moments, strict=True)
        for (name, weight), (_, gradient), (mean, square) in pairs:
            four = (t.view(-1, t.shape[-1]) for t in (weight, gradient, mean, square))
            update(*four, Adam(lr=1e-4, step=done), unit_rows=name == "decoder")

    return step


def milliseconds(work: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)


def main() -> None:
    parts = ideal()
    least = sum(parts.values()) * 1e3
    shape = f"{ROWS:,} rows of {D_IN:,} into {LATENTS:,} latents, k = {K}"
    split = ", ".join(f"{name} {seconds * 1e3:.2f}" for name, seconds in parts.items())
    print(f"{shape}: ideal {least:.2f} ms by arithmetic ({split})")
    if not torch.cuda.is_available():
        print("Nothing was measured, since torch finds no CUDA device on this machine.")
        return
    g = torch.Generator("cuda").manual_seed(0)
    x = torch.randn(ROWS, D_IN, generator=g, device="cuda")
    steps: dict[str, Callable[[], object]] = {}
    for name in NAMES:
        steps[name] = training(backends()[name](), x)
        for _ in range(3):
            milliseconds(steps[name])  # compiled and warm from here on
    rounds = [{name: milliseconds(step) for name, step in steps.items()} for _ in range(ROUNDS)]
    print(f"{torch.cuda.get_device_name()}, medians (fastest) of {ROUNDS} rounds in turns")
    for name, label in NAMES.items():
        taken = [each[name] for each in rounds]
        middle = statistics.median(taken)
        print(
            f"  {label:26} {middle:7.2f} ms ({min(taken):.2f})  {ROWS / middle * 1e3:,.0f} rows/s"
            f"  {least / middle:.0%} of the ideal"
        )
    highest = torch.cuda.max_memory_allocated() / 2**30
    print(f"  memory at its highest: {highest:.1f} GiB for all of these together")
