"""Which contexts an explanation is made from, and on which it is judged.

1. Documents are halved at random; explained is from one half, judged on the other.
2. Active: the contexts that the unit table shows, from every stratum.
3. Silent: random rows on which the unit is silent, found by encoding a pool of rows again. The
   shown contexts are encoded as well: if they are not what the table says, the basis has changed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from interp.errors import DataError
from interp.features.bases import Basis
from interp.features.explain.config import ExplainConfig
from interp.features.explain.explainer import Context
from interp.features.table import UnitTable
from interp.store import ActivationStore

POOL = 1024
"""Random rows among which silent ones are found."""
CLOSE = 0.05
"""Relative difference of an activation from the table's that rounding may make."""


@dataclass(frozen=True)
class Chosen:
    """Rows of the store for one unit."""

    shown: Int64[np.ndarray, " shown"]
    """To explain from, strongest first."""
    active: Int64[np.ndarray, " active"]
    """To judge on."""
    silent: Int64[np.ndarray, " silent"]
    """To judge on."""


class Contexts:
    """Chooses the contexts of a table's units."""

    def __init__(
        self, table: UnitTable, store: ActivationStore, basis: Basis | None, config: ExplainConfig
    ) -> None:
        """Halve the documents and draw the pool.

        Args:
            table: of the units.
            store: from which it was extracted.
            basis: of the table; needed for judging only.
            config: settings.

        Raises:
            DataError: another store, or one without text.
        """
        if store.digest != table.store_digest:
            raise DataError(
                f"{table.path} was not extracted from {store.path} as it is now; run "
                f"`interp extract {store.name} {table.site}` again"
            )
        if not store.manifest.vocabulary:
            raise DataError(f"store {store.name} has no text: its rows have no vocabulary")
        self._table, self._store, self._basis, self._config = table, store, basis, config
        draw = np.random.default_rng([config.seed, 0xE7])
        halves = draw.permutation(len(store.documents)) % 2
        self._first: Bool[np.ndarray, " rows"] = halves[store.document_index] == 0
        usable = np.flatnonzero(~self._first & ~store.sinks)
        self._pool = np.sort(draw.permutation(usable)[:POOL])

    def of(self, units: Sequence[int]) -> list[Chosen]:
        """The rows of several units.

        Raises:
            DataError: the basis is not the one that the table was made from.
        """
        strata = [self._table.contexts(unit) for unit in units]
        peaks = [np.concatenate([each.rows for each in of]) for of in strata]
        silent = [np.empty(0, np.int64) for _ in units]
        if self._config.judged and self._basis is not None:
            z = self._encoded(self._basis, self._pool, units)
            rows, owner = (
                np.concatenate(peaks),
                np.repeat(np.arange(len(units)), list(map(len, peaks))),
            )
            known = np.concatenate([stratum.values for of in strata for stratum in of])
            self._check(self._basis, rows, owner, known, units)
            silent = [self._pool[z[:, number] == 0] for number in range(len(units))]
        return [
            self._choose(unit, rows, quiet)
            for unit, rows, quiet in zip(units, peaks, silent, strict=True)
        ]

    def _choose(self, unit: int, rows: np.ndarray, silent: np.ndarray) -> Chosen:
        most, draw = self._config.judged, np.random.default_rng([self._config.seed, 0xE8, unit])
        shown, active = rows[self._first[rows]], rows[~self._first[rows]]
        # Shown ones lie evenly over the strata, which stand in order of strength.
        some = np.unique(np.linspace(0, max(len(shown) - 1, 0), self._config.shown).round())
        count = min(most, len(active), len(silent))
        return Chosen(
            shown[some.astype(np.int64)] if len(shown) else shown,
            np.sort(draw.permutation(active)[:count]),
            np.sort(draw.permutation(silent)[:count]),
        )

    def text(self, row: int) -> Context:
        """The text around a row, as far as the table shows it."""
        store, table = self._store, self._table
        document = store.documents[int(store.document_index[row])]
        low = max(document.first_row, row - table.before)
        high = min(document.first_row + document.rows, row + 1 + table.after)
        ids = store.tokens[low:high].tolist()
        text, at = store.vocabulary.text, row - low
        return Context(text(ids[:at]), text(ids[at : at + 1]), text(ids[at + 1 :]))

    def _encoded(
        self, basis: Basis, rows: np.ndarray, units: Sequence[int]
    ) -> Float32[np.ndarray, "rows units"]:
        x = torch.from_numpy(self._store.take(basis.site, rows))
        with torch.inference_mode():
            return basis.encode(x).float().cpu().numpy()[:, list(units)]

    def _check(
        self,
        basis: Basis,
        rows: np.ndarray,
        owner: np.ndarray,
        known: np.ndarray,
        units: Sequence[int],
    ) -> None:
        for start in range(0, len(rows), POOL):
            part = slice(start, start + POOL)
            z = self._encoded(basis, rows[part], units)
            found = z[np.arange(len(z)), owner[part]]
            if not np.allclose(found, known[part], rtol=CLOSE, atol=1e-3):
                raise DataError(
                    f"{self._table.path} does not say what {basis.name} does now; run "
                    f"`interp extract {self._store.name} {self._table.site}` again"
                )
