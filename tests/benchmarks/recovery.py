"""How well each architecture recovers planted features, beside controls that cannot.

The activations are sums of 128 unit features in 64 dimensions, each present with probability .03.
Dictionaries have 128 latents and about 4 active ones. Held-out columns:

    MMCS    mean over features of the best |cosine| to a decoder row
    F1      features and latents matched one to one (most |cosine| in all); per feature, the F1 of
            "latent active" as a sign of "feature present"; unmatched features would count 0
    unique  distinct best features of the latents, as a share of the latents
    dead    latents that never fired on the held-out rows
    L0      active latents a row;   FVE  fraction of variance explained, centred

``--full`` trains on five times as many tokens, ``--data-init P`` as `interp train` does.
Controls: ``random`` is a dictionary before its first step, ``frozen`` one whose decoder stays so.
"""

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from interp.sae import Dictionary, TrainConfig, architectures
from tests.sae.planted import Planted, mmcs
from tests.sae.shared import ORIGIN, finish, small, trainer_on

LATENTS = 128
TOKENS = 600_000
FULL_TOKENS = 3_000_000
HELDOUT = 16_384
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("topk", {"multi_coefficient": 0.125}),
    ("topk", {"start_k": 10}),
    ("l1", {"p_end": 0.2}),
    ("matryoshka", {"nesting": "random"}),
    ("lista", {"start_k": 10}),
    ("jumprelu", {"penalty": "tanh"}),
    ("jumprelu", {"penalty": "quadratic-l0", "target_l0": 4.0, "sparsity_warmup": 0.5}),
    ("topk", {"frozen_decoder": True}),
    ("batchtopk", {"frozen_decoder": True}),
)
"""What is trained besides every architecture at its defaults."""


def rows(tokens: int, data_init: float) -> Iterator[tuple[str, dict[str, float]]]:
    """A name and its figures, one architecture after another."""
    every: list[tuple[str, dict[str, Any]]] = [(kind, {}) for kind in architectures()]
    yield "random", measured("topk", {}, 0)
    for kind, settings in (*every, *VARIANTS):
        said = " ".join(f"{key}={value}" for key, value in settings.items())
        share = 0.0 if "frozen_decoder" in settings else data_init
        yield f"{kind} {said}".strip(), measured(kind, settings, tokens, share)


def measured(
    kind: str, settings: dict[str, Any], tokens: int, data_init: float = 0.0
) -> dict[str, float]:
    """Train one architecture, or with no tokens none, and score it on rows it has not seen."""
    source = Planted(batch=512)
    chosen = small(kind, latents=LATENTS, k=4, **settings)
    run = TrainConfig(
        tokens=max(tokens, 1), batch=512, lr=1e-2, seed=3, dead_after=20_000, data_init=data_init
    )
    start = time.perf_counter()
    trainer = trainer_on(source, chosen, run)
    if tokens:
        dictionary = finish(trainer, chosen)
    else:
        dictionary = trainer.learner.dictionary(chosen.dictionary(64, ORIGIN), trainer.scale)
    return {**scores(source, dictionary), "seconds": time.perf_counter() - start}


@torch.no_grad()
def scores(source: Planted, dictionary: Dictionary) -> dict[str, float]:
    """The table's columns."""
    x, present = source.labelled(HELDOUT, 2**31)
    z = dictionary.encode(torch.from_numpy(x))
    error = x - dictionary.decode(z).numpy()
    active = z.numpy() > 0
    decoder = dictionary.W_dec.numpy()
    cosines = np.abs(source.features @ decoder.T)
    features, latents = linear_sum_assignment(-cosines)
    hits = (present[:, features] & active[:, latents]).sum(axis=0)
    counts = present[:, features].sum(axis=0) + active[:, latents].sum(axis=0)
    return {
        "MMCS": mmcs(source.features, decoder),
        "F1": float((2 * hits / np.maximum(counts, 1)).sum() / len(source.features)),
        "unique": len(np.unique(cosines.argmax(axis=0))) / dictionary.n_latents,
        "dead": int((~active.any(axis=0)).sum()),
        "L0": float(active.sum(axis=1).mean()),
        "FVE": 1 - float((error**2).sum() / ((x - x.mean(axis=0)) ** 2).sum()),
    }


def main(flags: list[str]) -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--full", action="store_true", help="five times as many training tokens")
    parser.add_argument("--data-init", type=float, default=0.0, help="see `interp train`")
    args = parser.parse_args(flags)
    print(f"{'architecture':<64}  MMCS    F1  unique  dead    L0    FVE  seconds")
    for name, found in rows(FULL_TOKENS if args.full else TOKENS, args.data_init):
        print(
            f"{name:<64} {found['MMCS']:5.3f} {found['F1']:5.3f}   {found['unique']:5.3f}"
            f" {found['dead']:5d} {found['L0']:5.2f}  {found['FVE']:5.3f}  {found['seconds']:7.1f}",
            flush=True,
        )
