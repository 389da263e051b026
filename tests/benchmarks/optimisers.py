"""Whether a newer optimiser than Adam is worth having: equal steps, each at several rates.

python -m tests.benchmarks.optimisers STORE SITE [--latents N] [--k N] [--tokens N]
                                                 [--rates X ...] [--seeds N ...] [--only NAME ...]

Trains TopK on a store with torch's own optimisers in place of the trainer's Adam, all else equal:
the same batches, schedule, projected gradient and unit rows. Columns: held-out FVE (of several
seeds the mean and half the range) and dead latents at each rate (as multiples of the default),
and milliseconds of the optimiser a step.
Muon moves the matrices, scaled to Adam's usual step (Liu et al. 2025, 2502.16982), and leaves the
biases to Adam.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from interp.files import read_json
from interp.sae import TopK, TrainConfig, train, trainer
from interp.sae.adam import EPS, Adam
from interp.store import ActivationStore

RATES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


class Other(Adam):
    """Some optimisers in the place of the trainer's; gradients are clipped as there."""

    def __init__(self, make, learner, *args) -> None:
        super().__init__(learner, *args)
        self.seconds = 0.0
        self._tensors = [torch.nn.Parameter(t) for _, t in learner.weights.items()]
        self._steppers: list[torch.optim.Optimizer] = make(self._tensors, self.lr)

    def step(self, gradients, lr: float) -> None:
        start = time.perf_counter()
        factor = self._factor(gradients)
        for _, gradient in gradients.items() if factor is not None else ():
            gradient.mul_(factor)
        self._learner.constrain_gradients(gradients)
        for tensor, (_, gradient) in zip(self._tensors, gradients.items(), strict=True):
            tensor.grad = gradient
        for stepper in self._steppers:
            stepper.param_groups[0]["lr"] = self.lr = lr
            stepper.step()
        self._learner.constrain_weights()
        self.seconds += time.perf_counter() - start


def _muon(tensors: list[Any], lr: float) -> list[torch.optim.Optimizer]:
    matrices = [t for t in tensors if t.ndim == 2]
    others = [t for t in tensors if t.ndim == 1]
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.Adam(others, lr=lr, eps=EPS),
    ]


OTHERS = {
    "Adam": lambda tensors, lr: [torch.optim.Adam(tensors, lr=lr, eps=EPS)],
    "Adam, no momentum": lambda t, lr: [torch.optim.Adam(t, lr=lr, eps=EPS, betas=(0.0, 0.999))],
    "NAdam": lambda tensors, lr: [torch.optim.NAdam(tensors, lr=lr, eps=EPS)],
    "RAdam": lambda tensors, lr: [torch.optim.RAdam(tensors, lr=lr, eps=EPS)],
    "Adafactor": lambda tensors, lr: [torch.optim.Adafactor(tensors, lr=lr, weight_decay=0.0)],
    "Muon": _muon,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("site")
    parser.add_argument("--latents", type=int, default=2304)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=600_000)
    parser.add_argument("--rates", type=float, nargs="*", default=RATES)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--only", nargs="*", default=list(OTHERS), choices=list(OTHERS))
    args = parser.parse_args()
    store = ActivationStore.open(args.store)
    print(
        " " * 18, *(f"{rate:g}x".rjust(21) for rate in args.rates), "ms/step".rjust(9), flush=True
    )
    for name in args.only:
        print(name.ljust(18), end=" ", flush=True)
        for rate in args.rates:
            found = [measured(store, args, name, rate, seed) for seed in args.seeds]
            fves, dead, spent = zip(*found, strict=True)
            spread = (max(fves) - min(fves)) / 2
            cell = f"{statistics.mean(fves):.4f} ±{spread:.4f} {statistics.mean(dead):6.2%}"
            print(cell.rjust(21), end=" ", flush=True)
        print(f"{statistics.mean(spent):9.1f}", flush=True)


def measured(
    store: ActivationStore, args: argparse.Namespace, name: str, rate: float, seed: int
) -> tuple[float, float, float]:
    made: list[Other] = []

    def make(*args) -> Other:
        made.append(Other(OTHERS[name], *args))
        return made[0]

    architecture = TopK(latents=args.latents, k=args.k)
    default = TrainConfig().peak_lr(args.latents)
    config = TrainConfig(
        tokens=args.tokens, lr=rate * default, dead_after=args.tokens // 3, seed=seed
    )
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(trainer, "Adam", make):
        train(store, args.site, architecture, config, out=Path(folder) / "d")
        heldout = read_json(Path(folder) / "d" / "metrics.json")["heldout"]
    steps = -(-config.tokens // config.batch)
    return heldout["fve"], heldout["dead_fraction"], made[0].seconds / steps * 1e3


if __name__ == "__main__":
    main()
