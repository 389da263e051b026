"""Fitted baselines on disk: a folder of JSON and safetensors, as dictionaries have.

config.json          kind, site, k, provenance; state "writing" until the weights lie beside it
weights.safetensors  mean [width], components [m, width], analysis [width, m] where codes are linear
"""

from pathlib import Path

import torch

from interp.errors import DataError, FormatError, UnknownName
from interp.features.fit import Fit
from interp.features.fitted import KINDS, FittedBasis
from interp.files import read_json, write_json
from interp.sae.files import read_tensors, write_tensors
from interp.workspace import Workspace

FORMAT, VERSION = "interp-basis", 1
CONFIG, WEIGHTS = "config.json", "weights.safetensors"


def save_basis(fit: Fit, folder: str | Path) -> Path:
    """Write a fitted basis to a folder and return the folder.

    Raises:
        ResourceError: no space is left, or the folder cannot be written.
    """
    folder, basis = Path(folder), fit.basis
    config = {
        "format": FORMAT,
        "version": VERSION,
        "state": "writing",
        "kind": basis.kind,
        "model": fit.model,
        "site": basis.site,
        "k": basis.k,
        "rows": fit.rows,
        "iterations": fit.iterations,
        "converged": fit.converged,
        "provenance": fit.provenance.to_dict(),
    }
    write_json(folder / CONFIG, config)
    write_tensors(folder / WEIGHTS, basis.tensors, {})
    write_json(folder / CONFIG, {**config, "state": "finished"})
    return folder


def load_basis(path: str | Path) -> FittedBasis:
    """Read a fitted basis' folder; its name is the folder's.

    Raises:
        FormatError: a file is missing, malformed, foreign, newer or half written.
    """
    folder = Path(path)
    values = read_json(folder / CONFIG)
    if values.get("format") != FORMAT:
        raise FormatError(f"{folder / CONFIG} describes no fitted basis of interp; name another")
    if values.get("version") != VERSION:
        raise FormatError(
            f"{folder / CONFIG} has version {values.get('version')}, this interp reads {VERSION}; "
            "update interp or fit again"
        )
    if values.get("state") != "finished":
        raise FormatError(f"{folder} is half written; run the same `interp fit` again")
    try:
        kind = values["kind"]
        if kind not in KINDS:
            raise UnknownName("baseline", str(kind), KINDS)
        tensors, _ = read_tensors(folder / WEIGHTS)
        if set(tensors) != set(KINDS[kind].coded_by):
            raise DataError(f"{kind} has {', '.join(KINDS[kind].coded_by)}, found {set(tensors)}")
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
            raise DataError("it holds NaN or infinity")
        return KINDS[kind](str(values["site"]), tensors, int(values["k"]), folder.name)
    except (KeyError, TypeError, ValueError, DataError) as error:
        raise FormatError(f"{folder} is malformed ({error}); fit again") from error


def fitted_bases(workspace: Workspace, model: str, site: str) -> dict[str, Path]:
    """The finished fitted bases of a site by name."""
    found: dict[str, Path] = {}
    for path in sorted(workspace.basis(model, site, "x").parent.glob("*")):
        try:
            values = read_json(path / CONFIG)
        except FormatError:
            continue
        if values.get("format") == FORMAT and values.get("state") == "finished":
            found[path.name] = path
    return found
