"""One pass over the rows of a site for some parts of some tables.

1. All rows but attention sinks, for every part at once and, the first time, for random directions
   as controls (`interp.features.control`): statistics and candidates for contexts
   (`interp.features.accumulate`) and, on the scored rows, the sums of the monosemanticity score
   (`interp.features.monoscore`).
2. Scores, contexts, rules, senses and the logit lens of each part (`interp.features.measure`), the
   scores' percentiles among the controls, and the activations around the contexts: one table.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from interp.config import to_dict
from interp.errors import DataError
from interp.features.accumulate import BINS, Accumulator, Rows
from interp.features.activations import activations_path
from interp.features.bases import Basis
from interp.features.config import ExtractConfig
from interp.features.control import controls, percentiles
from interp.features.firing import Firer, Firing
from interp.features.jackknife import GROUPS
from interp.features.logits import Lens
from interp.features.measure import SCORES, Measure
from interp.features.monoscore import MonoScore
from interp.features.parts import Part
from interp.features.scoring import Scoring
from interp.features.spill import Spill
from interp.features.table_writer import Header, write_table
from interp.features.tokens import CELLS, KEPT
from interp.progress import Progress
from interp.provenance import Provenance
from interp.store import ActivationStore

BYTES = 2 << 30
"""About what the running sums of one pass may take."""
TOP_PER_CONTEXT = 4
"""Strongest rows kept per context wanted, so that contexts can come from different documents."""


class _Sums:
    """What one pass adds up for a range of units."""

    def __init__(self, units: int, about: Rows, scoring: Scoring, config: ExtractConfig) -> None:
        self.stat = Accumulator(
            units, about, top=TOP_PER_CONTEXT * config.contexts, sample=config.reservoir
        )
        self.score = MonoScore(units, scoring.shifts)
        self.spill: Spill | None = None

    def add(self, rows: np.ndarray, firing: Firing, scored: np.ndarray, start: int) -> None:
        """Take a block; the places of its scored rows, and the number of the first of those."""
        self.stat.add(rows, firing)
        if len(scored):
            self.score.add(firing.of_rows(scored), start)
        if self.spill is not None:
            self.spill.add(rows, firing)


class Passes:
    """The passes that one process makes over one store."""

    def __init__(self, store: ActivationStore, config: ExtractConfig, model: Lens | None) -> None:
        """Learn what serves every basis and site of the store."""
        self._store, self._config = store, config
        self._about, self._scoring = Rows(store, config.seed), Scoring(store, config)
        self._measure = Measure(store, self._about, self._scoring, config, model)
        self._control: dict[str, dict[str, np.ndarray]] = {}

    def size(self, units: int) -> int:
        """About how many bytes the running sums of so many units of one part take."""
        config, shifts, kinds = self._config, self._scoring.shifts, len(self._about.kinds)
        best = (TOP_PER_CONTEXT * config.contexts + config.reservoir) * 2 * 20
        vectors = 4 * (shifts.replicates + GROUPS) * shifts.width
        cells = 12 * sum(rows.size for rows in self._about.labels.rows.values())
        tokens = 4 * kinds if units * kinds <= CELLS else 64 * KEPT
        return units * (best + vectors + cells + tokens + 8 * BINS)

    def __call__(self, parts: Sequence[Part], progress: Progress) -> None:
        """Make the tables of some parts, all of one site.

        Raises:
            DataError: activations are NaN or infinite.
            ResourceError: no space is left.
        """
        store, site = self._store, parts[0].job.basis.site
        with ExitStack() as stack:
            sums = [self._sums(part, stack) for part in parts]
            groups = _by_basis(parts, sums)
            control: tuple[Basis, _Sums] | None = None
            if site not in self._control:
                basis = controls(store, site, self._config.seed)
                control = basis, _Sums(basis.n_units, self._about, self._scoring, self._config)
                control[1].stat.codes = None
                groups.append((Firer(basis, [(0, basis.n_units)]), [control[1]]))
            self._stream(site, groups, progress)
            if control is not None:
                progress(store.rows, store.rows, "scores of the controls")
                basis, own = control
                self._control[site] = self._measure(basis, 0, own.stat, own.score).columns
            for part, own in zip(parts, sums, strict=True):
                self._finish(part, own, progress)

    def _sums(self, part: Part, stack: ExitStack) -> _Sums:
        sums = _Sums(part.units, self._about, self._scoring, self._config)
        if part.job.activations:
            path = activations_path(part.path)
            sums.spill = Spill(path, part.units, self._store.rows)
            stack.callback(sums.spill.close)
        return sums

    def _stream(
        self, site: str, groups: Sequence[tuple[Firer, list[_Sums]]], progress: Progress
    ) -> None:
        store, chosen = self._store, self._scoring.rows
        for rows, values in store.blocks(site, sinks=False, size=self._config.batch):
            x = torch.from_numpy(values)
            if not bool(torch.isfinite(x).all()):
                bad = int(rows[int((~np.isfinite(values)).any(axis=1).argmax())])
                raise DataError(
                    f"site {site} of store {store.name} holds NaN or infinity, first in row {bad}; "
                    "capture it again"
                )
            start, stop = (int(i) for i in np.searchsorted(chosen, [rows[0], rows[-1] + 1]))
            scored = np.searchsorted(rows, chosen[start:stop])
            for firer, sums in groups:
                for firing, own in zip(firer(x), sums, strict=True):
                    own.add(rows, firing, scored, start)
            progress(int(rows[-1]) + 1, store.rows, "encoding")

    def _finish(self, part: Part, sums: _Sums, progress: Progress) -> None:
        basis, store, stat = part.job.basis, self._store, sums.stat
        if not bool(np.isfinite(stat.max).all()):
            raise DataError(
                f"basis {basis.name} gives NaN or infinity on store {store.name}; train the "
                "dictionary again or leave it out"
            )
        progress(store.rows, store.rows, f"scores of {basis.name}")
        measured = self._measure(basis, part.first, stat, sums.score)
        measured.columns.update(percentiles(measured.columns, self._control[basis.site]))
        progress(store.rows, store.rows, f"contexts of {basis.name}")
        contexts = self._measure.contexts(basis, part.first, stat, measured)
        stat.codes = None
        header = self._header(part, measured.columns)
        if sums.spill is not None:
            sums.spill.finish(header)
        write_table(
            part.path,
            header,
            measured.columns,
            measured.histogram,
            contexts,
            measured.domains,
            measured.lens,
            measured.meanings,
        )

    def _header(self, part: Part, columns: dict[str, Any]) -> Header:
        basis, store, config = part.job.basis, self._store, self._config
        return Header(
            model=store.model,
            site=basis.site,
            basis=basis.name,
            kind=basis.kind,
            signed=basis.signed,
            n_units=part.units,
            rows=store.rows,
            store=store.name,
            store_digest=store.digest,
            corpus=store.manifest.corpus,
            key=part.job.key,
            provenance=Provenance(
                job="extract",
                seed=config.seed,
                config=to_dict(config),
                parents={store.name: store.digest, basis.name: basis.fingerprint},
            ),
            scores={name: words for name, words in SCORES.items() if name in columns},
        )


def _by_basis(parts: Sequence[Part], sums: Sequence[_Sums]) -> list[tuple[Firer, list[_Sums]]]:
    """Parts of one basis together, so that a block is encoded once for all of them."""
    found: dict[str, list[int]] = {}
    for number, part in enumerate(parts):
        found.setdefault(part.job.basis.name, []).append(number)
    return [
        (
            Firer(parts[chosen[0]].job.basis, [(parts[i].first, parts[i].last) for i in chosen]),
            [sums[i] for i in chosen],
        )
        for chosen in found.values()
    ]
