"""Everything measured about one dictionary, written beside it and shown as a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.evaluate.downstream import Downstream, downstream
from interp.files import read_json, write_json
from interp.models import LoadedModel
from interp.progress import Progress, silent
from interp.sae import Dictionary, Reconstruction, reconstruction
from interp.sae.files import METRICS
from interp.store import ActivationStore


@dataclass(frozen=True, kw_only=True)
class Report:
    """Held-out measurements of one dictionary."""

    address: str
    """``model/site/dictionary``."""
    heldout: Reconstruction
    """Reconstruction of held-out rows."""
    downstream: Downstream | None
    """Downstream loss, if a model was given."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        parts: dict[str, Any] = {"address": self.address, "heldout": self.heldout.to_dict()}
        if self.downstream is not None:
            parts["downstream"] = self.downstream.to_dict()
        return parts


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
    """Measure a dictionary on held-out documents.

    Args:
        dictionary: the dictionary.
        store: the store.
        model: if given, downstream loss is measured too.
        name: the dictionary's name; by default that of ``folder``.
        folder: if given, its metrics.json is updated; what else it holds is kept.
        windows: at most so many windows for downstream loss.
        seed: governs their choice.
        progress: told the windows done.

    Raises:
        ConfigError, UnknownName, DataError: see `reconstruction` and `downstream`.
        ResourceError: metrics.json cannot be written.
    """
    origin = dictionary.origin
    label = name or (Path(folder).name if folder else dictionary.kind)
    heldout = reconstruction(dictionary, store)
    spliced = None
    if model is not None:
        spliced = downstream(
            dictionary, model, store, windows=windows, seed=seed, progress=progress
        )
    report = Report(
        address=f"{origin.model}/{origin.site}/{label}", heldout=heldout, downstream=spliced
    )
    if folder is not None:
        path = Path(folder) / METRICS
        before = read_json(path) if path.exists() else {}
        measured = report.to_dict()
        del measured["address"]
        write_json(path, {**before, **measured})
    return report


HEADER = ("dictionary", "FVE", "MSE", "L0", "dead", "rows", "CE", "+CE", "recovered", "KL")


def table(reports: Sequence[Report]) -> str:
    """Reports as an aligned text table.

    ``+CE`` is the loss added by the dictionary; ``recovered`` is loss recovered against mean
    ablation with its 95 % interval. Everything is on held-out rows.
    """
    rows = [HEADER, *(_cells(report) for report in reports)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]

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
