"""Eight dictionaries over one reading of the data, against eight runs one after another.

python -m tests.benchmarks together [--quick]

TopK and BatchTopK at four k each, 2,304 latents, on 200,000 planted rows of 576 dimensions; 50
steps of 4,096 rows (8 with --quick). Once as eight commands and as one, which is what a user waits
for: each command imports, surveys the data and loads machine code; and once as eight calls and one
within a process that has done so.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from interp.sae import BatchTopK, TopK, TrainConfig, train, train_many
from interp.store import ActivationStore
from interp.workspace import Workspace
from tests.benchmarks.step import seconds
from tests.sae.planted import Planted
from tests.stores import make_store

ROWS, D_IN, LATENTS, BATCH = 200_000, 576, 2304, 4096
KS = (8, 16, 32, 64)
ROUNDS = 3


def main(*, quick: bool) -> None:
    for one in shares(quick=quick):
        print(
            f"eight dictionaries, {one['steps']} steps each, as one of eight {one['label']}: "
            f"{one['share']:.2f} of the time; {one['one_s']:.1f} s and {one['eight_s']:.1f} s",
            flush=True,
        )


def shares(*, quick: bool) -> Iterator[dict[str, Any]]:
    """Of commands and of calls: the median share of the time, and the seconds of one and eight."""
    steps, rounds = (8, 1) if quick else (50, ROUNDS)
    with tempfile.TemporaryDirectory() as place:
        store = planted_store(Workspace.at(Path(place) / "store").store("planted"))
        one_call(store, Path(place) / "warm", 1)  # machine code is there from here on
        for label, ours, plain in (
            ("commands", one_command, eight_commands),
            ("calls", one_call, eight_calls),
        ):
            pairs: list[tuple[float, float]] = []
            for turn in range(rounds):
                here = Path(place) / f"{label}{turn}"
                both = (partial(work, store, here, steps) for work in (ours, plain))
                one, eight = (seconds(work) for work in both)
                pairs.append((one, eight))
            one, eight = (statistics.median(column) for column in zip(*pairs, strict=True))
            share = statistics.median(a / b for a, b in pairs)
            yield {"label": label, "steps": steps, "share": share, "one_s": one, "eight_s": eight}


def planted_store(path: Path) -> ActivationStore:
    source = Planted(d_in=D_IN, features=2304, p=20 / 2304)
    rows = np.concatenate([source.draw(ROWS // 20, key) for key in range(20)])
    return make_store(path, activations={"resid_post.0": rows.astype(np.float16)}, documents=100)


def settings(steps: int) -> TrainConfig:
    return TrainConfig(tokens=steps * BATCH, batch=BATCH)


def one_call(store: ActivationStore, place: Path, steps: int) -> None:
    runs = [(kind(latents=LATENTS, k=k), settings(steps)) for kind in (TopK, BatchTopK) for k in KS]
    train_many(store, "resid_post.0", runs, workspace=place / "one")


def eight_calls(store: ActivationStore, place: Path, steps: int) -> None:
    for kind in (TopK, BatchTopK):
        for k in KS:
            config = settings(steps)
            train(store, "resid_post.0", kind(latents=LATENTS, k=k), config, workspace=place / "8")


def command(store: ActivationStore, place: Path, steps: int, kinds: str, ks: str) -> None:
    words = ["train", str(store.path), "resid_post.0", "--workspace", str(place)]
    words += ["--architecture", kinds, "--k", ks, "--latents", str(LATENTS)]
    words += ["--tokens", str(steps * BATCH), "--batch", str(BATCH), "--json"]
    subprocess.run(
        [sys.executable, "-m", "interp", *words],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def one_command(store: ActivationStore, place: Path, steps: int) -> None:
    command(store, place / "one", steps, "topk,batchtopk", ",".join(map(str, KS)))


def eight_commands(store: ActivationStore, place: Path, steps: int) -> None:
    for kind in ("topk", "batchtopk"):
        for k in KS:
            command(store, place / "8", steps, kind, str(k))
