"""``interp demo``: from nothing to browsing a real model's features.

Every step is a verb of its own and skipped when its result exists, so the demo may be stopped at
any point and continued with the same command. The toy model comes first: it is browsable within
minutes, while the real one is still being prepared.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.cli import app
from interp.cli.say import say, table
from interp.files import read_json, write_json
from interp.provenance import versions
from interp.workspace import Workspace

EXAMPLE = """\
  interp demo
  interp demo --no-app --quick"""

STATE = "demo.json"


@dataclass(frozen=True)
class Step:
    """One line of the demo: a verb and its arguments, and what it leaves in the workspace."""

    title: str
    arguments: tuple[str, ...]
    results: Callable[[Workspace], list[Path]]
    browsable: bool = False
    """Whether the app has something to show once this step is done."""

    @property
    def key(self) -> str:
        """Changes when the step or the package does."""
        text = json.dumps([self.arguments, versions().get("interp-workbench")])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


TOY, REAL = "shakespeare-1l", "smollm2-135m"
TOY_SITE, REAL_SITE, REAL_MLP = "mlp_post.0", "resid_post.9", "mlp_post.9"


def _file(*parts: str) -> Callable[[Workspace], list[Path]]:
    return lambda workspace: [workspace.root.joinpath(*parts)]


def _dictionary(model: str, site: str, name: str) -> Callable[[Workspace], list[Path]]:
    return lambda workspace: [workspace.dictionary(model, site, name) / "weights.safetensors"]


def _units(model: str, site: str, *bases: str) -> Callable[[Workspace], list[Path]]:
    return lambda workspace: [workspace.units(model, site, basis) for basis in bases]


def steps(*, quick: bool = False) -> list[Step]:
    """The whole job, in the order in which it becomes browsable.

    Args:
        quick: a twentieth of the tokens; for trying the machinery, not for looking at features.
    """

    def tokens(full: int) -> str:
        return str(full // 20 if quick else full)

    controls = ("neurons", "random")
    toy_steps = ("--steps", "40") if quick else ()
    toy_name = "batchtopk-2048-k16-s0"
    real_name, real_top = "batchtopk-4608-k32-s0", "topk-4608-k32-s0"
    mlp_name = "batchtopk-3072-k32-s0"

    def train(store: str, site: str, kind: str, latents: int, k: int, budget: int) -> Step:
        name = f"{kind}-{latents}-k{k}-s0"
        return Step(
            f"train {name} on {store} {site}",
            ("train", store, site, "--architecture", kind, "--k", str(k))
            + ("--latents", str(latents), "--tokens", tokens(budget)),
            _dictionary(store, site, name),
        )

    def evaluate(store: str, site: str, name: str, windows: int, dtype: str) -> Step:
        count = str(max(windows // 8, 8)) if quick else str(windows)
        return Step(
            f"evaluate {name} on held-out text of {store}",
            ("evaluate", store, site, name, "--windows", count, "--model-dtype", dtype),
            _dictionary(store, site, name),
        )

    def extract(store: str, site: str, *bases: str, browsable: bool = False) -> Step:
        return Step(
            f"extract the units of {store} {site}",
            ("extract", store, site, "--bases", *bases),
            _units(store, site, *bases),
            browsable,
        )

    return [
        Step("get the corpus", ("corpora", "get", "library"), _file("corpora", "library")),
        Step(
            f"train the toy transformer {TOY}",
            ("models", "train", TOY, *toy_steps),
            _file("models", TOY, "model.json"),
        ),
        Step(
            f"capture {TOY}",
            ("capture", TOY, TOY_SITE, "--corpus", "shakespeare", "--tokens", tokens(1_000_000)),
            _file("stores", TOY, "manifest.json"),
        ),
        train(TOY, TOY_SITE, "batchtopk", 2048, 16, 800_000),
        extract(TOY, TOY_SITE, *controls, toy_name, browsable=True),
        Step(f"get {REAL}", ("models", "get", REAL), _file("models", REAL, "model.json")),
        Step(
            f"capture {REAL}",
            ("capture", REAL, REAL_SITE, REAL_MLP, "--model-dtype", "bfloat16")
            + ("--tokens", tokens(300_000)),
            _file("stores", REAL, "manifest.json"),
        ),
        train(REAL, REAL_SITE, "batchtopk", 4608, 32, 800_000),
        train(REAL, REAL_SITE, "topk", 4608, 32, 300_000),
        extract(REAL, REAL_SITE, *controls, real_name, real_top, browsable=True),
        evaluate(TOY, TOY_SITE, toy_name, 128, "float32"),
        evaluate(REAL, REAL_SITE, real_name, 16, "bfloat16"),
        train(TOY, TOY_SITE, "topk", 2048, 16, 300_000),
        train(REAL, REAL_MLP, "batchtopk", 3072, 32, 250_000),
        Step(
            f"capture {TOY} untrained",
            ("capture", f"{TOY}@0", TOY_SITE, "--corpus", "shakespeare")
            + ("--tokens", tokens(1_000_000)),
            _file("stores", f"{TOY}@0", "manifest.json"),
        ),
        extract(REAL, REAL_MLP, "neurons", mlp_name),
    ]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    parser.add_argument(
        "--no-app", action="store_true", help="run the job only; for machines without a screen"
    )
    parser.add_argument("--port", type=int, default=8501, help="port on localhost [8501]")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a twentieth of the tokens, in a workspace of its own, to try the machinery",
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing, open the app as soon as there is something to see, and stay with it."""
    workspace = Workspace.at(args.workspace)
    if args.quick:
        workspace = Workspace(workspace.root / "quick")
    if not args.no_app:
        app.check_port(args.port)
    plan = steps(quick=args.quick)
    done = _read_state(workspace)
    process = None
    try:
        for number, step in enumerate(plan, start=1):
            if not _is_done(step, done, workspace):
                say(args, f"\n[{number}/{len(plan)}] {step.title}")
                started = time.monotonic()
                result = _run_verb(step, workspace, args)
                seconds = round(time.monotonic() - started, 1)
                done[step.key] = {"title": step.title, "seconds": seconds, "result": result}
                write_json(workspace.root / STATE, done)
            if step.browsable and process is None and not args.no_app:
                process = app.start(workspace, args.port, browser=True)
                say(args, f"\nbrowse {step.arguments[1]} now: http://localhost:{args.port}")
        ran = [done[step.key] for step in plan]
        table(args, [{"step": each["title"], "seconds": each["seconds"]} for each in ran])
        table(args, dictionaries(workspace))
        if process is not None:
            say(args, f"\nhttp://localhost:{args.port}  (Ctrl-C closes it)")
            try:
                process.wait()
            except KeyboardInterrupt:
                say(args, "\nclosed; make demo opens it again")
        return {"workspace": str(workspace.root), "steps": done}
    finally:
        if process is not None and process.poll() is None:
            process.terminate()
            process.wait(timeout=10)


def _run_verb(step: Step, workspace: Workspace, args: argparse.Namespace) -> Any:
    """Run a step exactly as its command line would; its errors and interruptions pass through."""
    import importlib

    from interp.cli import verb_parser

    verb, *rest = step.arguments
    module = importlib.import_module(f"interp.cli.{verb}")
    own = verb_parser(verb, module).parse_args(rest)
    own.workspace, own.json = str(workspace.root), args.json
    return module.run(own)


def _read_state(workspace: Workspace) -> dict[str, Any]:
    path = workspace.root / STATE
    return read_json(path) if path.exists() else {}


def _is_done(step: Step, done: dict[str, Any], workspace: Workspace) -> bool:
    return step.key in done and all(path.exists() for path in step.results(workspace))


def dictionaries(workspace: Workspace) -> list[dict[str, Any]]:
    """The held-out figures of every dictionary of a workspace, one row each."""
    rows: list[dict[str, Any]] = []
    for path in sorted((workspace.root / "dictionaries").glob("*/*/*/metrics.json")):
        metrics = read_json(path)
        model, site, name = path.parts[-4:-1]
        rows.append(
            {
                "model": model,
                "site": site,
                "dictionary": name,
                "FVE": metrics.get("heldout", {}).get("fve"),
                "L0": metrics.get("heldout", {}).get("l0"),
                "dead": metrics.get("heldout", {}).get("dead_fraction"),
                "loss recovered": metrics.get("downstream", {}).get("loss_recovered"),
            }
        )
    return rows
