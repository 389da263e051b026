"""What ``interp evaluate`` measures besides where a flag asks for it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.cli.bars import bar
from interp.cli.say import say
from interp.cli.say import table as show
from interp.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from interp.evaluate import Removal, Report
    from interp.models import LoadedModel
    from interp.store import ActivationStore


def seeds(args: argparse.Namespace, reports: "Sequence[Report]") -> list[dict[str, Any]]:
    """Means over dictionaries that differ in their seed, where there are any."""
    from interp.evaluate import over_seeds

    found = over_seeds(reports)
    if found:
        say(args, "\nmeans over seeds, 95 % intervals by Student's t")
        rows: dict[str, dict[str, Any]] = {}
        for each in found:
            row = rows.setdefault(each.address, {"dictionary": each.address, "seeds": each.seeds})
            row[each.figure] = f"{each.mean:.4g} [{each.low:.4g}, {each.high:.4g}]"
        show(args, list(rows.values()))
    return [each.to_dict() for each in found]


def probes(
    args: argparse.Namespace, store: "ActivationStore", workspace: Workspace, names: list[str]
) -> list[dict[str, Any]]:
    """Sparse probing of every basis of the site."""
    from interp.evaluate import probe
    from interp.features import find_bases

    bases = find_bases(store, args.site, ["neurons", "random", *names], workspace, args.seed)
    with bar(f"probe {args.site}", "rows", args) as progress:
        probes = probe(bases, store, seed=args.seed, progress=progress)
    say(args, f"\nsparse probing of {store.model}, held-out windows, 95 % intervals over documents")
    rows: list[dict[str, Any]] = [
        {
            "label": each.label,
            "k": each.k,
            "basis": each.basis,
            "AUROC": f"{each.auroc:.3f} [{each.auroc_low:.3f}, {each.auroc_high:.3f}]",
            "balanced accuracy": f"{each.balanced_accuracy:.3f} "
            f"[{each.balanced_accuracy_low:.3f}, {each.balanced_accuracy_high:.3f}]",
            "documents": f"{each.documents} of {each.documents + each.others}",
        }
        for each in sorted(probes, key=lambda each: (each.label, each.k))
    ]
    show(args, rows)
    return [each.to_dict() for each in probes]


def isolations(
    args: argparse.Namespace, store: "ActivationStore", workspace: Workspace, names: list[str]
) -> list[dict[str, Any]]:
    """FMS of every basis of the site."""
    from interp.evaluate import isolation
    from interp.features import find_bases

    bases = find_bases(store, args.site, ["neurons", "random", *names], workspace, args.seed)
    with bar(f"isolate {args.site}", "rows", args) as progress:
        found = isolation(bases, store, seed=args.seed, progress=progress)
    say(
        args,
        f"\nFMS on held-out windows of {store.model}, 95 % intervals over documents; .25 is chance",
    )
    rows: list[dict[str, Any]] = [
        {
            "basis": each.basis,
            "p": each.p,
            "FMS": f"{each.fms:.3f} [{each.fms_low:.3f}, {each.fms_high:.3f}]",
            "accuracy": f"{each.accuracy:.3f}",
            "local": f"{each.local_:.3f}",
            "global": f"{each.global_:.3f}",
            "labels": len(each.by_label),
        }
        for each in found
    ]
    show(args, rows)
    return [each.to_dict() for each in found]


def perturbations(
    args: argparse.Namespace, store: "ActivationStore", workspace: Workspace, names: list[str]
) -> list[dict[str, Any]]:
    """Targeted probe perturbation by bases that write where they read."""
    from interp.evaluate import perturb
    from interp.features import find_bases

    bases = find_bases(store, args.site, ["neurons", "random", *names], workspace, args.seed)
    with bar(f"perturb {args.site}", "rows", args) as progress:
        found = perturb(bases, store, seed=args.seed, progress=progress)
    say(args, f"\ntargeted probe perturbation of {store.model}, held-out windows,")
    say(args, "95 % intervals over documents;")
    say(args, "compare with random, never rank: such figures change much from seed to seed")
    rows: list[dict[str, Any]] = [
        {
            "basis": each.basis,
            "removed a label": each.n,
            "TPP": f"{each.tpp:.3f} [{each.tpp_low:.3f}, {each.tpp_high:.3f}]",
            "own drop": f"{each.own:.3f}",
            "others' drop": f"{each.others:.3f}",
            "probes before": f"{each.accuracy:.3f}",
        }
        for each in found
    ]
    show(args, rows)
    return [each.to_dict() for each in found]


def removals(
    args: argparse.Namespace, store: "ActivationStore", workspace: Workspace, names: list[str]
) -> list[dict[str, Any]]:
    """Spurious correlation removal by bases that write where they read."""
    from interp.evaluate import remove_spurious
    from interp.features import find_bases

    bases = find_bases(store, args.site, ["neurons", "random", *names], workspace, args.seed)
    with bar(f"spurious {args.site}", "rows", args) as progress:
        found = remove_spurious(bases, store, seed=args.seed, progress=progress)
    say(args, "\nspurious correlation removal, held-out windows, 95 % intervals over documents;")
    say(args, "compare with random, never rank: audits found such figures at odds with the truth")
    show(args, [_removal(each) for each in found])
    return [each.to_dict() for each in found]


def _removal(each: "Removal") -> dict[str, Any]:
    return {
        "basis": each.basis,
        "reads": each.target,
        "misled by": each.spurious,
        "removed": each.n,
        "SCR": f"{each.scr:.3f} [{each.scr_low:.3f}, {each.scr_high:.3f}]",
        "biased": f"{each.biased:.3f}",
        "ablated": f"{each.ablated:.3f}",
        "oracle": f"{each.oracle:.3f}",
    }


def absorptions(
    args: argparse.Namespace,
    store: "ActivationStore",
    model: "LoadedModel",
    workspace: Workspace,
    names: list[str],
) -> dict[str, Any]:
    """Absorption of first letters, or the sentence that says why there is none to measure."""
    from interp.errors import ConfigError, DataError
    from interp.evaluate import absorption, spelling
    from interp.features import find_bases
    from interp.features.bases import DictionaryBasis

    bases = find_bases(store, args.site, names, workspace, args.seed)
    dictionaries = [basis for basis in bases if isinstance(basis, DictionaryBasis)]
    if not dictionaries:
        raise ConfigError("--absorption is of latents that write where they read; name an SAE")
    with bar(f"spell {args.site}", "words", args) as progress:
        try:
            words = spelling(model, store.site(args.site).name, seed=args.seed, progress=progress)
        except DataError as error:
            say(args, f"\n{error}")
            return {"cannot": str(error)}
    found = absorption(dictionaries, words, seed=args.seed)
    say(
        args, "\nabsorption of first letters, held-out words, 95 % intervals over words; probes are"
    )
    say(args, f"right in {words.accuracy:.1%}. Compare dictionaries of the same width and L0 only")
    rows: list[dict[str, Any]] = [
        {
            "dictionary": each.basis,
            "fraction": f"{each.fraction:.3f} [{each.fraction_low:.3f}, {each.fraction_high:.3f}]",
            "in full": f"{each.full:.3f} [{each.full_low:.3f}, {each.full_high:.3f}]",
            "main latents a letter": each.mains,
            "words": each.words,
        }
        for each in found
    ]
    show(args, rows)
    return {"dictionaries": [each.to_dict() for each in found], "accuracy": words.accuracy}


def shared(
    args: argparse.Namespace, folders: list[Path], alive: "list[np.ndarray]"
) -> dict[str, Any]:
    """Latents of each dictionary that another one has too."""
    from interp.evaluate import shared as compare
    from interp.sae import load_dictionary

    dictionaries = [load_dictionary(folder) for folder in folders]
    names = [folder.name for folder in folders]
    comparisons, stability = compare(dictionaries, names, alive=alive, seed=args.seed)
    rows: list[dict[str, Any]] = []
    for comparison in comparisons:
        for each in (comparison.found, comparison.baseline):
            row: dict[str, Any] = {"latents of": each.one, "in": each.other}
            row |= {"nearest": each.nearest[0], "back": each.nearest[1], "matched": each.matched}
            for threshold, share in zip(each.thresholds, each.share_nearest[0], strict=True):
                row[f"shared {threshold:g}"] = share
            rows.append(row)
    say(args, "\nlatents that fire on held-out rows, cosine of their directions")
    show(args, rows)
    if stability is not None:
        say(args, f"PW-MCC over all latents: {stability:.3f}")
    return {"comparisons": [each.to_dict() for each in comparisons], "pw_mcc": stability}


def truths(
    args: argparse.Namespace, store: "ActivationStore", dictionaries: dict[str, Path]
) -> dict[str, Any]:
    """How much of what was planted the dictionaries of a planted store found."""
    from interp.evaluate.truth import Truth, judge
    from interp.lab.planted_store import heldout_rows, planted_in
    from interp.sae import load_dictionary

    with bar("directions", "steps", args) as progress:
        planted, config = planted_in(store, progress)
        directions = planted.directions.numpy()
    found: dict[str, Truth] = {}
    with bar("truth", "dictionaries", args) as progress:
        for number, (name, path) in enumerate(dictionaries.items()):
            progress(number, len(dictionaries), name)
            batches = heldout_rows(store, planted, config)
            found[name] = judge(load_dictionary(path), directions, batches)
        progress(len(dictionaries), len(dictionaries))
    say(args, f"\nthe truth: {planted.config.features:,} planted features, held-out rows")
    rows: list[dict[str, Any]] = [
        {
            "dictionary": name,
            "MMCS": f"{each.mmcs:.4f}",
            "MCC": f"{each.mcc:.4f}",
            "uniqueness": f"{each.uniqueness:.4f}",
            "F1": f"{each.f1:.4f}",
            "precision": f"{each.precision:.4f}",
            "recall": f"{each.recall:.4f}",
            "F1 by latent": f"{each.f1_by_latent:.4f}",
            "FVE": f"{each.fve:.4f}",
            "shrinkage": f"{each.shrinkage:.4f}",
            "L0": f"{each.l0:.2f} of {each.true_l0:.2f}",
        }
        for name, each in found.items()
    ]
    show(args, rows)
    return {name: each.to_dict() for name, each in found.items()}
