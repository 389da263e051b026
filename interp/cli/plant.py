"""``interp plant``: make a store of rows whose true features are known."""

import argparse
from dataclasses import replace
from typing import Any

from interp.cli.bars import bar
from interp.cli.flags import add_config, read_config
from interp.cli.say import say
from interp.config import field_types
from interp.workspace import Workspace

EXAMPLE = """\
  interp plant easy --out planted --rows 300k
  interp plant synth-sae-bench-v2 --out synth --rows 2M
  interp plant easy --features 512 --rates zipf --first-rate 0.2 --last-rate 0.001 --roots 16"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    from interp.lab.planted import WORLDS, PlantedConfig
    from interp.lab.planted_store import PlantConfig
    from interp.lab.tree import Tree

    parser.add_argument(
        "world",
        choices=list(WORLDS),
        help="easy: 128 independent features in 64 dimensions, each in 3 %% of rows; "
        "synth-sae-bench-v2: 16,384 correlated features in 768, with a hierarchy. The flags below "
        "change it",
    )
    parser.add_argument("--out", metavar="NAME", help="name of the store [the world's name]")
    add_config(parser, PlantConfig)
    add_config(parser, PlantedConfig, skip=("seed", "tree"), defaults=False)
    parser.add_argument(
        "--world-seed",
        type=int,
        metavar="INT",
        help="governs directions, magnitudes' spread, correlation and offset",
    )
    add_config(parser, Tree, defaults=False)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result."""
    from interp.lab.planted import WORLDS, Planted, PlantedConfig
    from interp.lab.planted_store import PlantConfig, plant
    from interp.lab.tree import Tree

    world = WORLDS[args.world]
    changed = _given(PlantedConfig, args, skip="seed")
    if args.world_seed is not None:
        changed["seed"] = args.world_seed
    if shape := _given(Tree, args):
        changed["tree"] = replace(world.tree or Tree(), **shape)
    config = read_config(PlantConfig, args)
    out = Workspace.at(args.workspace).store(args.out or args.world)
    with bar("directions", "steps", args) as steps, bar("plant", "rows", args) as progress:
        planted = Planted(replace(world, **changed), steps)
        store = plant(planted, out, config, progress=progress)
    heldout = int(store.heldout.sum())
    say(
        args,
        f"{store.name}: {store.rows:,} rows of {planted.config.features:,} features in "
        f"{planted.config.d_in:,} dimensions, {heldout:,} held out; {store.path}",
    )
    return {
        "store": store.name,
        "path": str(store.path),
        "rows": store.rows,
        "width": planted.config.d_in,
        "features": planted.config.features,
        "heldout_rows": heldout,
        "digest": store.digest,
    }


def _given(config: type, args: argparse.Namespace, skip: str = "") -> dict[str, Any]:
    """The settings of a config that were given as flags."""
    names = [name for name in field_types(config) if name != skip]
    return {name: getattr(args, name) for name in names if hasattr(args, name)}
