"""``interp evaluate``: judge dictionaries and classical baselines on held-out text."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.cli.bars import bar
from interp.cli.measures import (
    absorptions,
    isolations,
    perturbations,
    probes,
    removals,
    seeds,
    shared,
    truths,
)
from interp.cli.say import say
from interp.cli.stores import open_store
from interp.cli.twins import evaluated, labelled, twins
from interp.cli.verify import model_source
from interp.workspace import Workspace

if TYPE_CHECKING:
    from interp.evaluate import Candidate, Report

EXAMPLE = """\
  interp evaluate smollm2-135m resid_post.9 batchtopk-4608-k32-s0 --windows 64
  interp evaluate smollm2-135m resid_post.4+resid_post.9        # crosscoders of both
  interp evaluate base+tuned resid_post.9                       # crosscoders of two models
  interp evaluate shakespeare-1l mlp_post.0 --no-model --probe --shared
  interp evaluate planted planted        # made by interp plant: how much of the truth was found"""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare what this verb takes."""
    parser.add_argument(
        "store",
        help="name of a store in the workspace, or its folder; two of the same rows joined by +, "
        "as for training, without downstream loss",
    )
    parser.add_argument("site", help="a site of that store, such as resid_post.9")
    parser.add_argument(
        "dictionary",
        nargs="*",
        help="names of dictionaries or fitted bases of that site; beside them stand a random "
        "rotation, the neurons and every fitted basis at equal L0, frozen decoders if any are "
        "there, and those of the same names of the model with random weights; transcoders are "
        "judged on their target, without those [every dictionary]",
    )
    parser.add_argument(
        "--windows", type=int, default=128, help="held-out windows for downstream loss [128]"
    )
    parser.add_argument(
        "--no-model", action="store_true", help="leave out downstream loss, which needs the model"
    )
    parser.add_argument(
        "--probe",
        action="store_true",
        help="sparse probing as well: domains and languages read from 1 and 5 units",
    )
    parser.add_argument(
        "--isolation",
        action="store_true",
        help="FMS as well: whether a domain or language is in one unit, in no other, and all of it",
    )
    parser.add_argument(
        "--perturb",
        action="store_true",
        help="targeted probe perturbation as well: what removing a domain's 2, 10 and 50 units "
        "does to its probe and to the others'; not to rank by",
    )
    parser.add_argument(
        "--spurious",
        action="store_true",
        help="spurious correlation removal as well: how far removing 2, 10 and 50 units of a "
        "language frees a probe for a domain that it misled, and the reverse; not to rank by",
    )
    parser.add_argument(
        "--absorption",
        action="store_true",
        help="absorption of first letters as well, if probes show that the model can spell there",
    )
    parser.add_argument(
        "--shared",
        action="store_true",
        help="shared and unique latents of the dictionaries as well, and their PW-MCC",
    )
    parser.add_argument("--seed", type=int, default=0, help="governs every random choice [0]")
    parser.add_argument(
        "--model-dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16"],
        help="precision the model computes in [float32]",
    )
    parser.add_argument("--device", help="cpu or cuda [cuda where there is one]")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Do it and return the result."""
    from interp.errors import ConfigError, UnknownName
    from interp.evaluate import candidate, compare, table, variants
    from interp.evaluate.spurious import crossed_labels
    from interp.features.find import finished_dictionaries
    from interp.features.fitted_files import fitted_bases, load_basis
    from interp.files import check_writable
    from interp.lab.planted_store import JOB
    from interp.models import load_model
    from interp.sae import load_dictionary
    from interp.sae.files import METRICS
    from interp.store import PairedStore
    from interp.store.site import JOINT

    workspace = Workspace.at(args.workspace)
    store = open_store(workspace, args.store)
    site = store.site(args.site).name
    finished = list(finished_dictionaries(workspace, store.model, site))
    paths = workspace.dictionary(store.model, site, "x").parent.glob("*/weights.safetensors")
    dictionaries: dict[str, Path] = {path.parent.name: path.parent for path in sorted(paths)}
    fitted = {
        name: load_basis(path) for name, path in fitted_bases(workspace, store.model, site).items()
    }
    wanted = list(dict.fromkeys(args.dictionary)) or (finished or list(fitted))
    known = [*dictionaries, *fitted]
    for name in wanted or [""]:
        if name not in known:
            remedy = f"`interp train {args.store} {args.site}` makes one."
            raise UnknownName("dictionary", name, known, remedy)
        if name in dictionaries:
            check_writable(dictionaries[name] / METRICS)

    def face(name: str) -> "Candidate":
        if name in fitted:
            return candidate(fitted[name], name)
        return candidate(load_dictionary(dictionaries[name], device=args.device or "cpu"), name)

    several = [name for name in wanted if name in dictionaries]
    if args.shared and len(several) < 2:
        raise ConfigError("--shared compares dictionaries with each other; name at least two")
    if args.absorption and (args.no_model or JOINT in site):
        raise ConfigError(
            "--absorption reads words with the model at one site; leave out --no-model, and name "
            "a site alone"
        )
    if args.spurious:
        crossed_labels(store, seed=args.seed)  # refuses before anything is computed
    frozen = [name for name in finished if "frozen" in name.split("-") and name not in wanted]
    groups: dict[str, list[Candidate]] = {}  # of one reading, by what is written
    for name in [*wanted, *frozen]:
        groups.setdefault((one := face(name)).writes, []).append(one)
    groups = {
        place: some for place, some in groups.items() if any(one.name in wanted for one in some)
    }
    model = None
    paired = isinstance(store, PairedStore)
    planted = not paired and store.manifest.provenance.get("job") == JOB
    if paired and not args.no_model:
        say(args, f"{store.name} is of two models: no downstream loss, which is one model's\n")
    elif planted and not args.no_model:
        say(args, f"{store.name} was planted: no model, so no downstream loss, but the truth\n")
    elif not args.no_model:
        source = model_source(store.manifest)
        model = load_model(source, workspace=workspace, device=args.device, dtype=args.model_dtype)
    reports: list[Report] = []
    for place, some in groups.items():
        with bar(f"evaluate {place}", "rows or windows", args) as progress:
            reports += compare(
                [one for one in some if one.name in wanted],
                store,
                model,
                fitted=list(fitted.values()),
                beside=[one for one in some if one.name in frozen],
                windows=args.windows,
                seed=args.seed,
                progress=progress,
            )
    measured = {report.address.rsplit("/", 1)[1]: report for report in reports}
    for name in wanted:
        if name in dictionaries:
            measured[name].write(dictionaries[name])
    untaught = twins(workspace, store, site, several)
    reports += evaluated(args, untaught, workspace, site)
    say(args, table(reports))
    say(args, f"\n{variants(reports)}")
    found: dict[str, Any] = {"reports": [report.to_dict() for report in reports]}
    found["seeds"] = seeds(args, reports)
    if args.probe:
        found["probes"] = probes(args, store, workspace, [*wanted, *frozen, *fitted])
    if args.isolation:
        found["isolation"] = isolations(args, store, workspace, [*wanted, *frozen, *fitted])
    across = {one.name for some in groups.values() for one in some if one.target}
    within = [name for name in [*wanted, *frozen, *fitted] if name not in across]
    if args.perturb:
        found["perturbations"] = perturbations(args, store, workspace, within)
    found["random_weights"] = {
        other.model: labelled(args, other, workspace, [name for name in names if name in within])
        for other, names in untaught
    }
    if args.spurious:
        found["removals"] = removals(args, store, workspace, within)
    if args.absorption and model is not None:
        found["absorption"] = absorptions(args, store, model, workspace, within)
    if planted:
        judged = {name: dictionaries[name] for name in [*several, *frozen]}
        found["truth"] = truths(args, store, judged)
    if args.shared:
        alive = [measured[name].alive for name in several]
        found["shared"] = shared(args, [dictionaries[name] for name in several], alive)
    if len(wanted) == 1:
        found |= {"dictionary": wanted[0], "metrics": measured[wanted[0]].to_dict()}
    return found
