"""What dictionaries are worth at equal data, width, k, steps and learning rate, beside the peers'.

python -m tests.benchmarks quality STORE SITE [flags, see --help]

For each architecture and trainer, over seeds: FVE on held-out rows, L0, dead latents, and the loss
recovered when the reconstructions are put into the model (against mean ablation, on held-out
windows, the same for all; `interp.evaluate.downstream`). Rows are centred and scaled to the mean
norm √d for all, drawn without sinks and shuffled by the seed, each seen as often; the contestants
and their settings are those of `interp bench`, with everything at its trainer's defaults that is
not named there. The peers are the environment that ``INTERP_PEERS`` names. Batch rules are applied
to the rows at hand. All multiply by the matrix library that ours choose, to save time.

Where a penalty sets the L0 (JumpReLU, L1, Gated) name several ``--strengths``, by which everybody's
coefficient is multiplied: FVE and loss recovered are then also read off at one L0, between the two
nearest strengths of each seed, linearly in log L0.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from interp.evaluate.candidate import Candidate
from interp.evaluate.downstream import downstream, downstream_many
from interp.models import load_model
from interp.sae.bench import KINDS
from interp.sae.bench.contest import Contest, drivers, given, run
from interp.store import ActivationStore
from interp.workspace import Workspace
from tests.benchmarks.peers import VARIABLE

PENALISED = ("jumprelu", "l1", "gated")
OURS = (sys.executable, "-m", "interp.sae.bench.ours")


@dataclass
class Rows:
    """A site's rows as all are given them."""

    store: ActivationStore
    site: str
    mean: np.ndarray = field(init=False)
    scale: float = field(init=False)

    def __post_init__(self) -> None:
        self.train = self.store.take(self.site, self._usable("train"))
        self.mean = self.train.mean(axis=0)
        self.scale = self.train.shape[1] ** 0.5 / float(
            np.linalg.norm(self.train - self.mean, axis=1).mean()
        )

    def _usable(self, split: str) -> np.ndarray:
        rows = self.store.rows_of(split)
        return rows[~self.store.sinks[rows]]

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        return ((rows - self.mean) * self.scale).astype(np.float32)

    def heldout(self, most: int = 8192) -> np.ndarray:
        rows = self._usable("heldout")
        chosen = np.random.default_rng(0).permutation(rows)[:most]
        return self.store.take(self.site, np.sort(chosen))


class Recorded:
    """Keeps the rows that a candidate is asked for, or plays their reconstructions back."""

    def __init__(self, rows: Rows, answers: np.ndarray | None = None) -> None:
        self._rows, self.asked, self._next = rows, [], 0
        self._answers = answers

    def __call__(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        if self._answers is None:
            self.asked.append(x.numpy())
            return x
        some = self._answers[self._next : self._next + len(x)]
        self._next += len(x)
        return torch.from_numpy(some / self._rows.scale + self._rows.mean).to(x)

    def candidate(self) -> Candidate:
        nothing = torch.zeros(0)
        return Candidate(
            "it", "peer", self._rows.site, 0, torch.device("cpu"), lambda x: nothing, self,
            lambda: nothing,
        )  # fmt: skip


def main(flags: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("site")
    parser.add_argument("--workspace", type=Path, help="where the store's model is")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--latents", type=int, default=2304)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument(
        "--strengths",
        type=float,
        nargs="*",
        default=[1.0],
        help="of penalties",
    )
    parser.add_argument(
        "--clip",
        type=float,
        help="what our gradients are clipped to; SAELens always clips its own to 1",
    )
    parser.add_argument("--data-init", type=float, default=0.0, help="of ours, see `interp train`")
    parser.add_argument("--at-l0", type=float, default=64.0, help="where strengths are compared")
    parser.add_argument("--windows", type=int, default=64, help="held-out ones, for the loss")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(flags)
    python = os.environ.get(VARIABLE)
    peers = drivers(Path(__file__).with_name("peers"), python) if python else []
    rows = Rows(ActivationStore.open(args.store), args.site)
    model = load_model(rows.store.model, workspace=Workspace.at(args.workspace), dtype="bfloat16")
    asking = Recorded(rows)
    whole = downstream(asking.candidate(), model, rows.store, windows=args.windows)
    print(f"the model itself: CE {whole.ce:.3f}; mean ablation {whole.ce_mean_ablation:.3f}")
    found: list[dict[str, Any]] = []
    header = ("kind", "trainer", "FVE", "±", "L0", "dead", "recovered", "±")
    print("{:11}{:28}{:>8}{:>7}{:>7}{:>7}{:>11}{:>7}".format(*header), flush=True)
    asked = rows.scaled(np.concatenate(asking.asked))
    for kind in args.kinds:
        contestants = [("ours", OURS), *((p.name, p.command) for p in peers if kind in p.kinds)]
        each: list[dict[str, Any]] = []
        answers: list[Candidate] = []
        strengths = args.strengths if kind in PENALISED else [1.0]
        for (name, command), strength in product(contestants, strengths):
            for seed in range(args.seeds):
                result, explained = _one(args, rows, asked, kind, command, seed, strength)
                asked_for = {"kind": kind, "trainer": name, "seed": seed, "strength": strength}
                each.append({**asked_for, **result})
                if explained is not None:
                    answers.append(Recorded(rows, explained).candidate())
        spliced = iter(downstream_many(answers, model, rows.store, windows=args.windows))
        for one in each:
            if "error" not in one:
                worth = next(spliced)
                one |= {"recovered": worth.loss_recovered, "kl": worth.kl}
        found += each
        for name, _ in contestants:
            own = [one for one in each if one["trainer"] == name]
            for strength in strengths:
                some = [one for one in own if one["strength"] == strength]
                label = name if strengths == [1.0] else f"{name} x {strength:g}"
                print(_line(kind, label, some), flush=True)
            if len(strengths) > 1:
                label = f"{name} at L0 {args.at_l0:g}"
                print(
                    _line(kind, label, [at_l0(own, seed, args.at_l0) for seed in range(args.seeds)])
                )
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))
    return 0


def _one(
    args, rows: Rows, asked: np.ndarray, kind: str, command, seed: int, strength: float
) -> tuple[dict[str, Any], np.ndarray | None]:
    """One training, and what it makes of the rows that the model's windows hold."""
    settings = Contest(
        d_in=rows.train.shape[1], latents=args.latents, k=args.k, batch=args.batch, lr=args.lr,
        steps=args.steps, seconds=1e-9, same_products=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        train = rows.scaled(np.random.default_rng(seed).permutation(rows.train))
        np.save(folder / "explain.npy", asked)
        files = {"explain": str(folder / "explain.npy"), "explained": str(folder / "out.npy")}
        common = given(settings, folder, train, rows.scaled(rows.heldout()))
        result = run(
            command,
            {
                **common,
                **files,
                "kind": kind,
                "by": "compiled",
                "seed": seed,
                "strength": strength,
                "clip": args.clip,
                "data_init": args.data_init,
            },
        )
        return result, None if "error" in result else np.load(folder / "out.npy")


def at_l0(each: Sequence[Mapping[str, Any]], seed: int, wanted: float) -> dict[str, Any]:
    """A seed's figures at an L0, between the two strengths around it, linearly in log L0."""
    own = [one for one in each if one["seed"] == seed and "error" not in one]
    own.sort(key=lambda one: one["l0"])
    for lower, upper in pairwise(own):
        if lower["l0"] <= wanted <= upper["l0"]:
            low, high = np.log(max(lower["l0"], 1e-9)), np.log(upper["l0"])
            share = float((np.log(wanted) - low) / (high - low)) if high > low else 0.0
            keys = ("fve_steps", "dead", "recovered", "kl")
            between = {key: (1 - share) * lower[key] + share * upper[key] for key in keys}
            return {**between, "l0": wanted}
    reached = ", ".join(f"{one['l0']:.0f}" for one in own)
    return {"error": f"L0 {wanted:g} lies not between those reached: {reached}"}


def _line(kind: str, name: str, each: list[dict[str, Any]]) -> str:
    errors = [one["error"] for one in each if "error" in one]
    if errors:
        return f"{kind:11}{name:28}{errors[0]}"

    def mean(key: str) -> float:
        return statistics.fmean(one[key] for one in each)

    def spread(key: str) -> float:
        return statistics.stdev(one[key] for one in each) if len(each) > 1 else float("nan")

    return (
        f"{kind:11}{name:28}{mean('fve_steps'):8.4f}{spread('fve_steps'):7.4f}{mean('l0'):7.1f}"
        f"{mean('dead'):7.2%}{mean('recovered'):11.4f}{spread('recovered'):7.4f}"
    )
