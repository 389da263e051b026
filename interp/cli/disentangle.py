"""``interp disentangle``: which latents carry each sense of a neuron, and whether they hold up."""

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from interp.cli.bars import bar
from interp.cli.flags import add_config, read_config
from interp.cli.say import say, table
from interp.cli.verify import model_source
from interp.workspace import Workspace

if TYPE_CHECKING:
    from interp.features.disentangled import Disentangled

EXAMPLE = """\
  interp disentangle shakespeare-1l/mlp_post.0/neurons/456
  interp disentangle smollm2-135m/mlp_post.9/neurons/2543 --dictionary batchtopk-3072-k32-s0"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    from interp.evaluate.disentangle.config import DisentangleConfig

    parser.add_argument("unit", help="address of a neuron, model/site/neurons/index")
    parser.add_argument(
        "--dictionary",
        help="whose latents; a dictionary of the same site [the first that is finished]",
    )
    parser.add_argument(
        "--no-model",
        action="store_true",
        help="leave out the effect on the next token, which needs the model",
    )
    parser.add_argument("--device", help="cpu or cuda [cuda where there is one]")
    add_config(parser, DisentangleConfig)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result."""
    from interp.evaluate.disentangle import DisentangleConfig, disentangle
    from interp.evaluate.disentangle.find import dictionary_for
    from interp.features import Address, open_units
    from interp.models import load_model
    from interp.store import ActivationStore

    workspace = Workspace.at(args.workspace)
    address = Address.parse(args.unit)
    config = read_config(DisentangleConfig, args)
    (units,) = open_units(workspace, address.model, address.site, address.basis).tables
    store = ActivationStore.open(workspace.store(units.store))
    basis = dictionary_for(workspace, store, units, args.dictionary)
    model = None
    if not args.no_model:
        model = load_model(model_source(store.manifest), workspace=workspace, device=args.device)
    with bar(f"disentangle {address.index}", "rows or windows", args) as progress:
        found = disentangle(
            units, address.index, basis, store, model=model, config=config, progress=progress
        )
    path = found.write(units.path)
    if not args.json:
        _print(args, found)
        say(args, f"\n{path}\nnow: interp app")
    return {"file": str(path), **_plain(found)}


def _print(args: argparse.Namespace, found: "Disentangled") -> None:
    say(args, f"mean contributions of latents of {found.dictionary} to the neuron, by sense\n")
    table(args, list(_sums(found)))
    say(args, "\nablating each sense's carriers, on documents that did not choose them\n")
    table(args, list(_tests(found)))
    say(
        args,
        "\nremoved: share of the neuron's activation; effect removed: share of its effect on the "
        "next token\ncontrol: as many random active latents of the same norm",
    )


def _sums(found: "Disentangled") -> Iterator[dict[str, Any]]:
    for sense in found.senses:
        name = "none" if sense.sense is None else str(sense.sense + 1)
        largest = sorted(
            zip(found.latents, sense.contributions, strict=True), key=lambda pair: -abs(pair[1])
        )
        shown = largest[:4]
        rest = sense.others + sum(value for _, value in largest[4:])
        yield {
            "sense": name,
            "share of mass": sense.share,
            "activation": sense.activation,
            "bias": sense.bias,
            "error": sense.error,
            "other latents": rest,
            "largest": " ".join(f"{latent}:{value:+.3f}" for latent, value in shown),
        }


def _tests(found: "Disentangled") -> Iterator[dict[str, Any]]:
    for sense in found.senses:
        if sense.sense is None:
            continue
        row: dict[str, Any] = {
            "sense": str(sense.sense + 1),
            "carriers": " ".join(map(str, sense.carriers)) or "-",
            "rows": sense.judged,
        }
        for name, test in (("removed", sense.removed), ("effect removed", sense.effect_removed)):
            row[name] = (
                "-" if test is None else f"{test.value:.2f} [{test.low:.2f}, {test.high:.2f}]"
            )
            row[f"{name}, control"] = None if test is None else test.control
        row["verdict"] = sense.verdict
        yield row


def _plain(found: "Disentangled") -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(found)
