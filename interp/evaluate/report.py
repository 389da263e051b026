"""Everything measured about dictionaries and the baselines beside them, written and shown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool

from interp.evaluate.candidate import Candidate, candidate, controls
from interp.evaluate.downstream import Downstream, downstream_many
from interp.evaluate.fidelity import Fidelity, Measured, measure
from interp.features.fitted import FittedBasis
from interp.files import check_writable, read_json, write_json
from interp.models import LoadedModel
from interp.progress import Progress, silent
from interp.sae import Dictionary, Reconstruction
from interp.sae.files import METRICS
from interp.sae.survey import survey
from interp.store import ActivationStore


@dataclass(frozen=True, kw_only=True)
class Report:
    """Held-out measurements of one dictionary or baseline."""

    address: str
    """``model/site/dictionary``."""
    kind: str
    """An architecture, or the kind of a baseline."""
    heldout: Reconstruction
    """Reconstruction of held-out rows."""
    fidelity: Fidelity
    """The other definitions of reconstruction, density and redundancy."""
    downstream: Downstream | None
    """Downstream loss, if a model was given."""
    alive: Bool[np.ndarray, " units"] = field(repr=False, compare=False)
    """Units above 0 on some held-out row; not in the file."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        parts: dict[str, Any] = {
            "address": self.address,
            "kind": self.kind,
            "heldout": self.heldout.to_dict(),
            "fidelity": self.fidelity.to_dict(),
        }
        if self.downstream is not None:
            parts["downstream"] = self.downstream.to_dict()
        return parts

    def write(self, folder: str | Path) -> None:
        """Update a dictionary's metrics.json; what else it holds is kept.

        Raises:
            ResourceError: it cannot be written.
        """
        path = Path(folder) / METRICS
        before = read_json(path) if path.exists() else {}
        measured = self.to_dict()
        del measured["address"], measured["kind"]
        write_json(path, {**before, **measured})


def evaluate(
    dictionary: Dictionary,
    store: ActivationStore,
    model: LoadedModel | None = None,
    *,
    name: str = "",
    folder: str | Path | None = None,
    windows: int = 256,
    seed: int = 0,
    progress: Progress = silent,
) -> Report:
    """Measure one dictionary on held-out documents; `compare` sets baselines beside several.

    Args:
        dictionary: the dictionary.
        store: the store.
        model: if given, downstream loss is measured too.
        name: the dictionary's name; by default that of ``folder``.
        folder: if given, its metrics.json is updated; what else it holds is kept.
        windows: at most so many windows for downstream loss.
        seed: governs their choice.
        progress: told the work done.

    Raises:
        ConfigError, UnknownName, DataError: see `candidate`, `measure` and `downstream`.
        ResourceError: metrics.json cannot be written.
    """
    if folder is not None:
        check_writable(Path(folder) / METRICS)
    label = name or (Path(folder).name if folder else dictionary.kind)
    one = candidate(dictionary, label)
    found = measure([one], store, progress=progress)
    (report,) = _reports([one], found, store, model, windows, seed, progress)
    if folder is not None:
        report.write(folder)
    return report


def compare(
    candidates: Sequence[Candidate],
    store: ActivationStore,
    model: LoadedModel | None = None,
    *,
    fitted: Sequence[FittedBasis] = (),
    beside: Sequence[Candidate] = (),
    windows: int = 256,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Report]:
    """Measure candidates of one site, and at the L0 of each its controls.

    Args:
        candidates: dictionaries or baselines of one site.
        store: the store.
        model: if given, downstream loss is measured too.
        fitted: bases of the site to keep as many components as each candidate has latents active.
        beside: further controls at their own L0, such as dictionaries of frozen decoder.
        windows: at most so many windows for downstream loss.
        seed: governs their choice and the random rotation.
        progress: told the work done.

    Returns:
        The candidates in their order, then the controls.

    Raises:
        ConfigError, UnknownName, DataError: see `measure` and `downstream`.
    """
    everyone = list(candidates)
    found = measure(everyone, store, progress=progress)
    if everyone:
        extra = list(beside)
        if everyone[0].target is None:
            place = store.site(everyone[0].site)
            mean = torch.from_numpy(survey(store, place, seed=seed).mean)
            for k in sorted({max(1, round(each.heldout.l0)) for each in found}):
                extra += controls(mean, place.name, list(fitted), k, seed)
        known = {(each.kind, each.k, each.name.split("@")[0]) for each in everyone if each.k}
        extra = [e for e in extra if (e.kind, e.k, e.name.split("@")[0]) not in known]
        found += measure(extra, store, progress=progress)
        everyone += extra
    return _reports(everyone, found, store, model, windows, seed, progress)


def _reports(
    candidates: Sequence[Candidate],
    found: Sequence[Measured],
    store: ActivationStore,
    model: LoadedModel | None,
    windows: int,
    seed: int,
    progress: Progress,
) -> list[Report]:
    spliced: Sequence[Downstream | None] = [None] * len(candidates)
    if model is not None:
        spliced = downstream_many(
            candidates, model, store, windows=windows, seed=seed, progress=progress
        )
    return [
        Report(
            address=f"{store.model}/{each.site}/{each.name}",
            kind=each.kind,
            heldout=measured.heldout,
            fidelity=measured.fidelity,
            downstream=down,
            alive=measured.alive,
        )
        for each, measured, down in zip(candidates, found, spliced, strict=True)
    ]


HEADER = ("dictionary", "FVE", "MSE", "L0", "dead", "rows", "CE", "+CE", "recovered", "KL")
VARIANTS = (
    ("FVE", None),
    ("uncentred", "fve_uncentred"),
    ("no bias", "fve_blind_to_bias"),
    ("SAEBench", "fve_saebench"),
    ("cosine", "cosine"),
    ("length", "length_ratio"),
    ("dense", "dense_fraction"),
    ("nearest", "redundancy_mean"),
    ("twins", "redundant_fraction"),
)


def table(reports: Sequence[Report]) -> str:
    """Reports as an aligned text table.

    ``+CE`` is the loss added by the dictionary; ``recovered`` is loss recovered against mean
    ablation with its 95 % interval. Everything is on held-out rows.
    """
    return _aligned([HEADER, *(_cells(report) for report in reports)])


def variants(reports: Sequence[Report]) -> str:
    """The definitions of `interp.evaluate.fidelity` side by side, as an aligned text table.

    ``no bias`` is blind to a constant error; ``dense`` the share of units of density above 0.1;
    ``nearest`` the mean over live units of the greatest cosine with another, ``twins`` the share
    of them with one above 0.9.
    """
    rows: list[tuple[str, ...]] = [("dictionary", *(title for title, _ in VARIANTS))]
    for report in reports:
        values = [
            report.heldout.fve if name is None else getattr(report.fidelity, name)
            for _, name in VARIANTS
        ]
        shown = ("-" if value is None else f"{value:.4f}" for value in values)
        rows.append((report.address, *shown))
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return "  ".join([first, *rest]).rstrip()

    return "\n".join(line(row) for row in rows)


def _cells(report: Report) -> tuple[str, ...]:
    held, down = report.heldout, report.downstream
    cells = (
        report.address,
        f"{held.fve:.4f}",
        f"{held.mse:.4g}",
        f"{held.l0:.1f}",
        f"{held.dead_fraction:.1%}",
        f"{held.rows:,}",
    )
    if down is None:
        return (*cells, "-", "-", "-", "-")
    interval = f"{down.loss_recovered:.3f} [{down.loss_recovered_low:.3f}, "
    return (
        *cells,
        f"{down.ce:.3f}",
        f"{down.ce_dictionary - down.ce:+.3f}",
        f"{interval}{down.loss_recovered_high:.3f}]",
        f"{down.kl:.3f}",
    )
