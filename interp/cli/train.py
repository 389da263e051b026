"""``interp train``: train dictionaries on stored activations."""

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import Any, get_origin

from interp.cli.bars import bar
from interp.cli.flags import add_config, several
from interp.cli.say import say, table
from interp.cli.stores import open_store
from interp.config import field_types
from interp.errors import ConfigError
from interp.files import read_json
from interp.progress import silent
from interp.workspace import Workspace

EXAMPLE = """\
  interp train smollm2-135m resid_post.9 --architecture batchtopk --k 32 --expansion 8
  interp train shakespeare-1l mlp_post.0 --architecture topk --k 16 --latents 4096 --seed 1
  interp train shakespeare-1l mlp_post.0 --architecture topk,batchtopk --k 16,32,64 --lr 1e-3,2e-3
  interp train shakespeare-1l mlp_post.0 --k 16,32 --seed 0,1,2 --data-seed 0
  interp train smollm2-135m resid_post.9 --live="--tokens 2M --model-dtype bfloat16"
  interp train smollm2-135m resid_post.9+mlp_post.9             # a crosscoder of both sites
  interp train base+tuned resid_post.9                          # of two stores of the same rows
  interp train smollm2-135m mlp_post.9 --target resid_post.9    # a transcoder; also with --skip
  interp train smollm2-135m mlp_in.4+mlp_in.5 --target mlp_out.4+mlp_out.5 --cross-layer"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes; an architecture's fields are flags by themselves."""
    from interp.sae import TrainConfig, architectures

    known = architectures()
    parser.add_argument(
        "store",
        help="name of a store in the workspace, or its folder; two of the same rows joined by +: "
        "a crosscoder of two models",
    )
    parser.add_argument(
        "site", help="a site of that store, such as resid_post.9, or several joined by +"
    )
    parser.add_argument(
        "--target",
        metavar="SITE",
        help="train a transcoder: latents of the other site predict this one [no transcoder]",
    )
    parser.add_argument(
        "--architecture",
        type=several(str, list(known)),
        metavar=f"{{{','.join(known)}}}[,...]",
        default=["batchtopk"],
        help="which; like every flag with [,...] it takes several, between commas: each "
        "combination is trained, all over one reading of the data where seeds agree [batchtopk]",
    )
    parser.add_argument("--out", metavar="NAME", help="name of the dictionary [ARCHITECTURE-sSEED]")
    parser.add_argument(
        "--log",
        type=several(str, ["tensorboard", "wandb"]),
        metavar="{tensorboard,wandb}[,...]",
        default=[],
        help="where to send the numbers of log.jsonl besides; each is an optional package",
    )
    parser.add_argument(
        "--device", help="cpu or cuda [cuda where there is one; one a process under torchrun]"
    )
    parser.add_argument(
        "--live",
        nargs="?",
        const="",
        metavar="FLAGS",
        help="store nothing: STORE is a model, and training reads what `interp capture STORE SITE` "
        'would store, computed in the same order; --live="--tokens 300k" gives capture\'s flags '
        "[read a store]",
    )
    parser.add_argument(
        "--live-memory",
        type=float,
        default=4.0,
        metavar="GB",
        help="with --live, how much of it is kept instead of computed again [4]",
    )
    parser.add_argument(
        "--shard-latents",
        type=int,
        default=1,
        metavar="N",
        help="under torchrun or srun, whose processes train each dictionary together: divide its "
        "latents among N of them, the rows of a batch among all others; for dictionaries too wide "
        "for one device [1: rows alone]",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="print where the time of a step went and the share of the machine's bound reached: "
        "bound = encoder's product at the measured speed + least memory traffic at the measured "
        "speed (interp/sae/profile.py); on a CPU, for one dictionary",
    )
    add_config(parser, TrainConfig, *known.values(), lists=True)


def given(args: argparse.Namespace) -> dict[str, list[Any]]:
    """The settings that were given, each as the list of its values.

    Raises:
        ConfigError: one belongs to other architectures than those chosen; names both.
    """
    from interp.sae import TrainConfig, architectures

    known = architectures()
    chosen = " or ".join(args.architecture)
    own = {name for kind in args.architecture for name in field_types(known[kind])}
    found: dict[str, list[Any]] = {}
    for kind, config in [*known.items(), ("", TrainConfig)]:
        for name, hint in field_types(config).items():
            if not hasattr(args, name):
                continue
            if kind and name not in own:
                flags = ", ".join("--" + each.replace("_", "-") for each in sorted(own))
                raise ConfigError(
                    f"--{name.replace('_', '-')} is a setting of {kind}, not of {chosen}; "
                    f"{chosen} has {flags}"
                )
            value = getattr(args, name)
            is_list = isinstance(value, list) and get_origin(hint) is not tuple
            found[name] = value if is_list else [value]
    return found


def run(args: argparse.Namespace) -> dict[str, Any] | None:
    """Do it and return the result, of which only the first process of several has one."""
    from interp.cli.launch import joined
    from interp.cli.live import live_store
    from interp.sae import grid, train, train_many
    from interp.sae.job import names
    from interp.sae.kernels.clock import clock

    workspace = Workspace.at(args.workspace)
    store = open_store(workspace, args.store) if args.live is None else live_store(args, workspace)
    site = store.site(args.site)
    runs = grid(args.architecture, given(args))
    called = names(site.width, runs, args.target)
    if args.out and len(runs) > 1:
        raise ConfigError(f"--out names one dictionary, not {len(runs)}; leave it out")
    _check_profile(args, len(runs))
    called = [args.out] if args.out else called
    paths = [workspace.dictionary(store.model, site.name, name) for name in called]
    label = ",".join(args.architecture) if len(runs) == 1 else f"{len(runs)} dictionaries"
    with (
        joined(args) as (mesh, device),
        clock() if args.profile else nullcontext() as counted,
        bar(f"train {label} {args.site}", "tok", args) as told,
    ):
        how: dict[str, Any] = {"device": device, "trackers": args.log, "target": args.target}
        how |= {"mesh": mesh, "progress": told if mesh.leads else silent}
        if len(runs) == 1:
            ((architecture, config),) = runs
            train(store, site.name, architecture, config, out=paths[0], **how)
        else:
            train_many(store, site.name, runs, workspace=workspace, **how)
    if not mesh.leads:
        return None
    results = [_result(name, path) for name, path in zip(called, paths, strict=True)]
    if len(results) == 1:
        (result,) = results
        heldout = result["metrics"]["heldout"]
        say(
            args,
            f"{called[0]}: FVE {heldout['fve']:.3f}, L0 {heldout['l0']:.1f}, {heldout['dead']:,} "
            f"of {heldout['latents']:,} latents silent on {heldout['rows']:,} held-out rows; "
            f"{paths[0]}",
        )
        for name, fve in heldout.get("fve_by_site", {}).items():
            say(args, f"  FVE at {name}: {fve:.3f}")
        if counted is not None:
            architecture, config = runs[0]
            latents = architecture.width(site.width)
            result["profile"] = _profile(args, counted.steps, config.batch, site.width, latents)
        return result
    table(args, [_row(result) for result in results])
    say(args, f"measured on held-out rows; in {paths[0].parent}")
    return {"dictionaries": results}


def _check_profile(args: argparse.Namespace, runs: int) -> None:
    import torch

    if args.profile and runs > 1:
        raise ConfigError(f"--profile is of one dictionary, not {runs}; leave it out")
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if args.profile and torch.device(device).type != "cpu":
        raise ConfigError(
            f"--profile times a processor's loops, not {device}'s; add --device cpu, or "
            "use torch.profiler"
        )


def _profile(
    args: argparse.Namespace, steps: list[dict[str, float]], rows: int, d_in: int, latents: int
) -> dict[str, Any] | None:
    from interp.sae.profile import profile

    if not steps:
        say(args, "no step was made, so there is no profile; the dictionary was there already")
        return None
    found = profile(steps, rows, d_in, latents)
    parts = ", ".join(f"{part} {taken:.1f}" for part, taken in found["parts_ms"].items())
    say(args, f"a step took {found['step_ms']:.1f} ms: {parts}")
    say(
        args,
        f"the bound is {found['bound_ms']:.1f} ms ({found['gflops']:,.0f} GFLOP/s, "
        f"{found['gigabytes']:.1f} GB/s); {found['reached']:.0%} of it reached",
    )
    return found


def _result(name: str, path: Path) -> dict[str, Any]:
    return {"dictionary": name, "path": str(path), "metrics": read_json(path / "metrics.json")}


def _row(result: dict[str, Any]) -> dict[str, Any]:
    heldout = result["metrics"]["heldout"]
    shown = {"FVE": "fve", "MSE": "mse", "L0": "l0", "silent": "dead", "latents": "latents"}
    return {"dictionary": result["dictionary"], **{key: heldout[of] for key, of in shown.items()}}
