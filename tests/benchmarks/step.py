"""A whole TopK training step, gradients and optimiser, by each backend in turns.

python -m tests.benchmarks step

4,096 planted rows of 576 into 4,608 latents, k = 32: 2,304 features, 20 of them in a row. Medians
of interleaved rounds, so that what else the machine does falls on all alike; then where the
compiled steps spend their time, what the bfloat16 searches miss, and how exactly the matrix product
library multiplies.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch.nn.functional import normalize

from interp.products import LIBRARIES, error, faster_products, library, permitted
from interp.sae.kernels import Backend, Rule, Weights, backends
from interp.sae.kernels.clock import clock, timed
from interp.sae.kernels.compiledstep import CompiledBackend
from interp.sae.kernels.update import Adam, update
from interp.sae.profile import split

ROWS, D_IN, LATENTS, K = 4096, 576, 4608, 32
FEATURES, ACTIVE = 2304, 20
ROUNDS = 7
STAGES = (1, 10, 30)
"""Steps after which the searches are compared."""
NAMES = {
    "dense": "textbook autograd",
    "sparse": "plain torch, sparse",
    "compiled": "compiled",
    "compiled-bfloat16": "compiled, bfloat16 search",
    "compiled-bfloat16-near": "the same, nearly exact",
}
RULE = Rule(k=K, per="row", aux_k=0, aux_coefficient=0.0)


def planted() -> torch.Tensor:
    """Rows of norm √d_in, as the trainer scales them."""
    draw = torch.Generator().manual_seed(0)
    features = normalize(torch.randn(FEATURES, D_IN, generator=draw), dim=1)
    present = torch.rand(ROWS, FEATURES, generator=draw) < ACTIVE / FEATURES
    x = (torch.rand(ROWS, FEATURES, generator=draw) + 0.5) * present @ features
    return x * D_IN**0.5 / x.norm(dim=1).mean()


def fresh() -> Weights:
    decoder = normalize(torch.randn(LATENTS, D_IN, generator=torch.Generator().manual_seed(1)))
    return Weights(decoder.clone(), torch.zeros(LATENTS), decoder, torch.zeros(D_IN))


def plain(backend: Backend, x: torch.Tensor) -> Callable[[], object]:
    """Projection, torch's fused Adam, renormalisation, each over all weights."""
    weights = fresh()
    tensors = [tensor for _, tensor in weights.items()]
    adam = torch.optim.Adam(tensors, lr=1e-3, fused=True)

    def step() -> None:
        gradients = backend.step(weights, x, RULE, float(D_IN)).gradients
        along = (gradients.decoder * weights.decoder).sum(dim=1, keepdim=True)
        gradients.decoder.addcmul_(along, weights.decoder, value=-1)
        for tensor, (_, gradient) in zip(tensors, gradients.items(), strict=True):
            tensor.grad = gradient
        adam.step()
        weights.decoder.div_(weights.decoder.norm(dim=1, keepdim=True))

    return step


def in_one_pass(
    backend: Backend, x: torch.Tensor, weights: Weights | None = None
) -> Callable[[], object]:
    """The optimiser's one pass of `interp.sae.kernels.update`, on fresh weights or these."""
    weights = weights or fresh()
    moments = [(torch.zeros_like(t), torch.zeros_like(t)) for _, t in weights.items()]
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        adam = Adam(lr=1e-3, step=done)
        gradients = backend.step(weights, x, RULE, float(D_IN)).gradients
        pairs = zip(weights.items(), gradients.items(), moments, strict=True)
        for (name, weight), (_, gradient), (mean, square) in pairs:
            shape = (-1, weight.shape[-1])
            four = (tensor.view(shape) for tensor in (weight, gradient, mean, square))
            with timed("optimiser"):
                update(*four, adam, unit_rows=name == "decoder")

    return step


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    with faster_products():
        steps()
    products()


def steps() -> None:
    """Every backend's step in turns, then the parts of the compiled ones."""
    x = planted()
    each_step: dict[str, Callable[[], object]] = {}
    for name in NAMES:
        way = in_one_pass if name.startswith("compiled") else plain
        each_step[name] = way(backends()[name](), x)
        seconds(each_step[name])  # warm from here on
    rounds = [{name: seconds(step) for name, step in each_step.items()} for _ in range(ROUNDS)]
    print(f"{torch.get_num_threads()} threads, medians (fastest) of {ROUNDS} rounds in turns")
    for name, label in NAMES.items():
        taken = [each[name] for each in rounds]
        ratio = statistics.median(each["dense"] / each[name] for each in rounds)
        print(
            f"  {label:26} {statistics.median(taken) * 1e3:7.1f} ms ({min(taken) * 1e3:.1f})"
            f"  {ratio:5.2f} times textbook autograd"
        )
    for name in NAMES:
        if not name.startswith("compiled"):
            continue
        with clock() as counted:
            for _ in range(ROUNDS + 1):
                with timed("whole"):
                    each_step[name]()
        parts = ", ".join(f"{part} {taken:.1f}" for part, taken in split(counted.steps).items())
        print(f"  {NAMES[name]}, ms: {parts}")
    for line in misses(x, fresh()):
        print(f"  {line}")


def misses(x: torch.Tensor, weights: Weights) -> Iterator[str]:
    """What each search misses of the exact one's selection along a training, and how it looked."""
    step, done = in_one_pass(backends()["compiled"](), x, weights), 0
    for stage in STAGES:
        while done < stage:
            step()
            done += 1
        exact, _ = chosen("full", weights, x)
        for search in ("bf16", "bf16-near"):
            found, full = chosen(search, weights, x)
            rows = float((found != exact).any(dim=1).float().mean())
            latents = 1 - float(torch.isin(found, exact).float().mean())
            yield (
                f"{search} search after {stage} steps: {rows:.2%} of rows and {latents:.2%} of "
                f"latents differ; {full:.1f} products a row in full for {K} latents"
            )


def chosen(
    search: Literal["full", "bf16", "bf16-near"], weights: Weights, x: torch.Tensor
) -> tuple[torch.Tensor, float]:
    """Each row's selection as sorted numbers of its own [n, k]; products computed again a row."""
    backend = CompiledBackend(search)
    assert float(backend.step(weights, x, RULE, float(D_IN)).l0) == K
    kept = backend._kept
    latents = kept["main latents"][: len(x) * K].view(len(x), K).long().sort(dim=1).values
    numbers = torch.arange(len(x))[:, None] * len(weights.b_enc) + latents
    return numbers, float(kept["full"].float().mean()) if "full" in kept else 0.0


def products() -> None:
    """What each of torch's matrix libraries computes here, and which one steps take."""
    a, b = torch.randn(1024, D_IN), torch.randn(LATENTS, D_IN)
    for name in LIBRARIES:
        with permitted(name):
            taken = min(seconds(lambda: a @ b.T) for _ in range(5))
            speed = 2 * a.numel() * LATENTS / taken / 1e9
            print(f"  float32 products, {name}: error {error():.1e}, {speed:,.0f} GFLOP/s")
    print(f"  taken: {library()}")
