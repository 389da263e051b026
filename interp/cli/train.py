"""``interp train``: train a dictionary on stored activations."""

import argparse
from collections.abc import Mapping
from typing import Any

from interp.cli.bars import bar
from interp.cli.flags import add_config, read_config
from interp.cli.say import say
from interp.cli.verify import store_path
from interp.config import field_types
from interp.errors import ConfigError
from interp.files import read_json
from interp.workspace import Workspace

EXAMPLE = """\
  interp train smollm2-135m resid_post.9 --architecture batchtopk --k 32 --expansion 8
  interp train shakespeare-1l mlp_post.0 --architecture topk --k 16 --latents 4096 --seed 1"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes; an architecture's fields are flags by themselves."""
    from interp.sae import TrainConfig, architectures

    known = architectures()
    parser.add_argument("store", help="name of a store in the workspace, or its folder")
    parser.add_argument("site", help="a site of that store, such as resid_post.9")
    parser.add_argument(
        "--architecture", choices=list(known), default="batchtopk", help="which [batchtopk]"
    )
    parser.add_argument("--out", metavar="NAME", help="name of the dictionary [ARCHITECTURE-sSEED]")
    parser.add_argument("--device", help="cpu or cuda [cuda where there is one]")
    add_config(parser, TrainConfig, *known.values())


def refuse_foreign(args: argparse.Namespace, known: Mapping[str, type], chosen: str) -> None:
    """Refuse a setting that only other architectures have.

    Raises:
        ConfigError: names the setting and what the chosen architecture has.
    """
    own = set(field_types(known[chosen]))
    for kind, config in known.items():
        for name in field_types(config):
            if name not in own and hasattr(args, name):
                flags = ", ".join("--" + each.replace("_", "-") for each in sorted(own))
                raise ConfigError(
                    f"--{name.replace('_', '-')} is a setting of {kind}, not of {chosen}; "
                    f"{chosen} has {flags}"
                )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result."""
    from interp.sae import TrainConfig, architectures, train
    from interp.store import ActivationStore

    workspace = Workspace.at(args.workspace)
    store = ActivationStore.open(store_path(workspace, args.store))
    known = architectures()
    refuse_foreign(args, known, args.architecture)
    architecture = read_config(known[args.architecture], args)
    config = read_config(TrainConfig, args)
    site = store.site(args.site)
    name = args.out or f"{architecture.label(site.width)}-s{config.seed}"
    path = workspace.dictionary(store.model, site.name, name)
    with bar(f"train {args.architecture} {args.site}", "tok", args) as progress:
        train(
            store,
            site.name,
            architecture,
            config,
            out=path,
            device=args.device,
            progress=progress,
        )
    metrics = read_json(path / "metrics.json")
    heldout = metrics["heldout"]
    say(
        args,
        f"{name}: FVE {heldout['fve']:.3f}, L0 {heldout['l0']:.1f}, {heldout['dead']:,} of "
        f"{heldout['latents']:,} latents silent on {heldout['rows']:,} held-out rows; {path}",
    )
    return {"dictionary": name, "path": str(path), "metrics": metrics}
