"""Every figure asked of a training step, measured and set beside what was asked for, as one table.

python -m tests.benchmarks trainer [--quick] [--out FOLDER]

Some 60 minutes: whole steps of all trainers (25 s of steps each), TopK with one matrix library for
all and with 16,384 latents, growth with latents and batch, the share of the machine's bound, and
eight dictionaries on one stream. Each part is kept in the folder as JSON when it is done, with the
versions and peers it was measured by, so that a second call with the same goes on where the first
was broken off, and only prints once all are there. The peers are the environment that
``INTERP_PEERS`` names (tests/benchmarks/peers/README.md); without it only ours are measured.
--quick sees whether all of it runs; its figures say nothing.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from interp.cli.bars import bar
from interp.files import check_writable, read_json, write_json
from interp.progress import Progress
from interp.provenance import versions
from interp.sae import TopK, TrainConfig, train
from interp.sae.bench import KINDS, Contest, Driver, contest, drivers
from interp.sae.kernels.clock import clock
from interp.sae.profile import profile
from tests.benchmarks import together
from tests.benchmarks.peers import VARIABLE

DEFAULT = Contest()
SHORT = replace(DEFAULT, seconds=10.0, batches=64)
WIDE = replace(SHORT, latents=16_384, batch=2048)
GROWTH = {
    "18,432 latents": replace(DEFAULT, latents=18_432, seconds=5.0, steps=5, batches=16),
    "73,728 latents": replace(DEFAULT, latents=73_728, seconds=5.0, steps=5, batches=16),
    "batch 1,024": replace(DEFAULT, batch=1024, seconds=5.0, steps=5, batches=16),
    "batch 16,384": replace(DEFAULT, batch=16_384, seconds=5.0, steps=5, batches=16),
}
QUICK = {"seconds": 0.5, "steps": 2, "batches": 3, "latents": 128, "batch": 256}
COMPILED, BFLOAT16, TEXTBOOK = "ours, compiled", "ours, compiled-bfloat16", "ours, textbook"
SPARSE_L0 = 200
"""Where penalties count as sparse; before that they are in their dense phase."""

Figures = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    work: str
    asked: str
    measured: str
    met: bool | None
    """None where nothing was asked for, or nothing could be measured."""


def main(flags: list[str]) -> int:
    """Measure what is not there yet and print the table."""
    parser = argparse.ArgumentParser(prog="trainer", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("activations/bench"))
    args = parser.parse_args(flags)
    python = os.environ.get(VARIABLE)
    peers = drivers(Path(__file__).with_name("peers"), python) if python else []
    folder = args.out / "quick" if args.quick else args.out
    check_writable(folder / "steps.json")
    by = {"versions": versions(), "peers": [peer.name for peer in peers]}
    found: dict[str, Any] = {}
    for name, measure in parts(peers, quick=args.quick).items():
        path = folder / f"{name}.json"
        kept = read_json(path) if path.exists() else {}
        if kept.get("by") != by:
            with bar(name, "parts", argparse.Namespace(json=False)) as progress:
                kept = {"by": by, "figures": measure(progress)}
            write_json(path, kept)
        found[name] = kept["figures"]
    sys.stdout.write(markdown(list(rows(found))))
    return 0


def parts(peers: Sequence[Driver], *, quick: bool) -> dict[str, Callable[[Progress], Any]]:
    """What is measured, by the name of the file it is kept in."""

    def contested(settings: Contest, kinds: Sequence[str], of: Sequence[Driver]) -> Any:
        return partial(contest, replace(settings, **QUICK) if quick else settings, kinds, of)

    return {
        "steps": contested(DEFAULT, KINDS, peers),
        "same-products": contested(replace(SHORT, same_products=True), ["topk"], peers),
        "wide": contested(WIDE, ["topk"], peers),
        **{
            f"growth, {name}": contested(settings, ["topk"], [])
            for name, settings in GROWTH.items()
        },
        "bound": partial(reached, steps=3 if quick else 40),
        "together": partial(eight, quick=quick),
    }


def reached(progress: Progress, *, steps: int) -> dict[str, Any]:
    """`interp train --profile` of TopK at the sizes of the contest."""
    batch, latents = DEFAULT.batch, DEFAULT.latents
    with tempfile.TemporaryDirectory() as place:
        store = together.planted_store(Path(place) / "store")
        config = TrainConfig(tokens=steps * batch, batch=batch)
        with clock() as counted:
            architecture = TopK(latents=latents, k=DEFAULT.k)
            train(store, "resid_post.0", architecture, config, out=Path(place) / "it")
        progress(1, 1, "")
        return profile(counted.steps, batch, DEFAULT.d_in, latents)


def eight(progress: Progress, *, quick: bool) -> list[dict[str, Any]]:
    """`tests.benchmarks.together`."""
    found = list(together.shares(quick=quick))
    progress(1, 1, "")
    return found


def rows(found: Mapping[str, Any]) -> Iterator[Row]:
    """The table's lines, of what `parts` measured.

    Args:
        found: by part; contests' figures as `interp.sae.bench.contest` gives them.
    """
    steps, same, wide = (found[name] for name in ("steps", "same-products", "wide"))
    yield _times("TopK, float32, against the fastest peer", 4, steps, "topk")
    yield _times("against SAELens", 12, steps, "topk", peer="SAELens")
    yield _times("against dictionary_learning", 10, steps, "topk", peer="dictionary_learning")
    share = found["bound"]["reached"]
    split = ", ".join(f"{part} {ms:.0f}" for part, ms in found["bound"]["parts_ms"].items())
    bound = f"{share:.0%} ({found['bound']['bound_ms']:.0f} ms; in ms: {split})"
    yield Row("of the sparse bound", "70 %", bound, share >= 0.7)
    yield _times("TopK, bfloat16 search, exact", 5.5, steps, "topk", ours=BFLOAT16)
    yield _times("TopK, one matrix library for all", 2.2, same, "topk")
    yield _times("the same, bfloat16 search", 3, same, "topk", ours=BFLOAT16)
    yield _times("TopK, 16,384 latents, batch 2,048", 4, wide, "topk")
    yield _times("the same, bfloat16 search", 6, wide, "topk", ours=BFLOAT16)
    for kind in ("batchtopk", "matryoshka"):
        yield _times(f"{kind}, against the fastest peer", 8, steps, kind)
    for kind in ("jumprelu", "l1", "gated"):
        l0 = _one(steps, kind, COMPILED).get("l0", float("inf"))
        phase, asked = ("sparse", 3) if l0 < SPARSE_L0 else ("dense still", 1.5)
        yield _times(f"{kind}, {phase} (L0 {l0:.0f} in the end)", asked, steps, kind)
    yield from (_memory(steps, kind) for kind in KINDS)
    for kind in KINDS[:3]:
        yield from _worth(steps, kind)
    for size, figures in (("4,608 latents, batch 4,096", steps), *_growth(found)):
        yield _grown(size, figures)
    for one in found["together"]:
        what = f"eight dictionaries on one stream, one of eight {one['label']}"
        share = f"{one['share']:.2f} ({one['one_s']:.0f} and {one['eight_s']:.0f} s)"
        yield Row(what, "at most .7 of the time", share, one["share"] <= 0.7)
    yield Row("H200: 65,536 latents of width 2,304, bfloat16", "3x", _gpu(), None)


def _one(figures: Figures, kind: str, trainer: str) -> Mapping[str, Any]:
    own = [one for one in figures if (one["kind"], one["trainer"]) == (kind, trainer)]
    return own[0] if own else {"error": "not measured"}


def _peers(figures: Figures, kind: str) -> list[Mapping[str, Any]]:
    others = [one for one in figures if one["kind"] == kind and "error" not in one]
    return [one for one in others if not one["trainer"].startswith("ours")]


def _times(
    work: str, asked: float, figures: Figures, kind: str, *, ours: str = COMPILED, peer: str = ""
) -> Row:
    """How many times as fast as the fastest peer, or the one named."""
    mine = _one(figures, kind, ours)
    theirs = [one for one in _peers(figures, kind) if peer in one["trainer"]]
    if "error" in mine or not theirs:
        return Row(work, f"{asked:g}x", mine.get("error", "no peer was measured"), None)
    best = min(theirs, key=lambda one: one["step_ms"])
    ratio = best["step_ms"] / mine["step_ms"]
    ms = f"{mine['step_ms']:.0f} against {best['step_ms']:,.0f} ms of {best['trainer']}"
    return Row(work, f"{asked:g}x", f"{ratio:.1f}x ({ms})", ratio >= asked)


def _memory(figures: Figures, kind: str) -> Row:
    work, asked = f"{kind}: memory against the leanest peer", "at most .5"
    mine, theirs = _one(figures, kind, COMPILED), _peers(figures, kind)
    if "error" in mine or not theirs:
        return Row(work, asked, mine.get("error", "no peer was measured"), None)
    best = min(theirs, key=lambda one: one["memory_mb"])
    ratio = mine["memory_mb"] / best["memory_mb"]
    mb = f"{mine['memory_mb']:.0f} and {best['memory_mb']:.0f} MB of {best['trainer']}"
    return Row(work, asked, f"{ratio:.2f} ({mb})", ratio <= 0.5)


def _worth(figures: Figures, kind: str) -> Iterator[Row]:
    """FVE and dead latents after equal time."""
    theirs = _peers(figures, kind)
    for ours in (COMPILED, BFLOAT16):
        mine, label = _one(figures, kind, ours), f"{kind}, {ours.removeprefix('ours, ')}"
        fve, dead = f"{label}: FVE after equal time", f"{label}: dead latents then"
        if "error" in mine or not theirs:
            error = mine.get("error", "no peer was measured")
            yield Row(fve, "above every peer", error, None)
            yield Row(dead, "at most 2 %", error, None)
            continue
        best = max(theirs, key=lambda one: one["fve_seconds"])
        both = f"{mine['fve_seconds']:.3f} and {best['fve_seconds']:.3f} of {best['trainer']}"
        yield Row(fve, "above every peer", both, mine["fve_seconds"] > best["fve_seconds"])
        yield Row(dead, "at most 2 %", f"{mine['dead']:.2%}", mine["dead"] <= 0.02)


def _growth(found: Mapping[str, Any]) -> list[tuple[str, Figures]]:
    return [(name, found[f"growth, {name}"]) for name in GROWTH]


def _grown(size: str, figures: Figures) -> Row:
    each = {
        "": _one(figures, "topk", COMPILED),
        "bfloat16 ": _one(figures, "topk", BFLOAT16),
        "textbook ": _one(figures, "topk", TEXTBOOK),
    }
    cost = "; ".join(
        one.get("error") or f"{label}{one['step_ms']:,.0f} ms, {one['memory_mb']:,.0f} MB"
        for label, one in each.items()
    )
    return Row(f"growth: {size}", "reported", cost, None)


def _gpu() -> str:
    if torch.cuda.is_available():
        return "`python -m tests.benchmarks gpu` measures it"
    return "no GPU here; `python -m tests.benchmarks gpu` measures it where there is one"


def markdown(table: Sequence[Row]) -> str:
    """The table, with what was missed in bold."""
    lines = ["| work | asked for | measured | |", "|-|-|-|-|"]
    for row in table:
        verdict = {True: "met", False: "**missed**", None: ""}[row.met]
        lines.append(f"| {row.work} | {row.asked} | {row.measured} | {verdict} |")
    return "\n".join(lines) + "\n"
