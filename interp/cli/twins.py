"""The control that ``interp evaluate`` looks for: dictionaries of the model with random weights."""

import argparse
from typing import TYPE_CHECKING, Any

from interp.cli.bars import bar
from interp.cli.measures import isolations, perturbations, probes
from interp.workspace import Workspace

if TYPE_CHECKING:
    from interp.evaluate import Report
    from interp.store import ActivationStore


def twins(
    workspace: Workspace, store: "ActivationStore", site: str, names: list[str]
) -> "list[tuple[ActivationStore, list[str]]]":
    """Stores of the same model with random weights, or at step 0, and its dictionaries there.

    Args:
        workspace: where to look.
        store: of the trained model.
        site: the site.
        names: of the dictionaries to which those of the same name are a control.
    """
    from interp.features.find import finished_dictionaries
    from interp.models.randomise import RANDOM
    from interp.store import ActivationStore
    from interp.store.schema import MANIFEST

    found: list[tuple[ActivationStore, list[str]]] = []
    for mark in (RANDOM, "@0"):
        model = f"{store.model}{mark}"
        theirs = finished_dictionaries(workspace, model, site)
        shared = [name for name in names if name in theirs]
        path = workspace.store(model)
        if shared and (path / MANIFEST).exists():
            found.append((ActivationStore.open(path), shared))
    return found


def evaluated(
    args: argparse.Namespace,
    found: "list[tuple[ActivationStore, list[str]]]",
    workspace: Workspace,
    site: str,
) -> "list[Report]":
    """Their dictionaries on the store that each is of; such a model has no loss to recover."""
    from interp.evaluate import evaluate
    from interp.sae import load_dictionary

    reports: list[Report] = []
    for store, names in found:
        for name in names:
            path = workspace.dictionary(store.model, site, name)
            dictionary = load_dictionary(path, device=args.device or "cpu")
            with bar(f"evaluate {store.model} {name}", "rows", args) as progress:
                reports.append(
                    evaluate(dictionary, store, name=name, seed=args.seed, progress=progress)
                )
    return reports


def labelled(
    args: argparse.Namespace, store: "ActivationStore", workspace: Workspace, names: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """What was asked for of the trained model's units and labels, of those of one such store."""
    measures = (
        ("probes", args.probe, probes),
        ("isolation", args.isolation, isolations),
        ("perturbations", args.perturb, perturbations),
    )
    return {key: run(args, store, workspace, names) for key, asked, run in measures if asked}
