"""Rows of a store on which a neuron is active, by the sense that its unit table gives it.

The table keeps each sense's exemplar, the row nearest to all others of it, and the distance below
which two contexts count as alike (`interp.features.senses`). An active row belongs to the sense
whose exemplar is nearest if it is nearer than that, else to none. How often this agrees with what
the table says of the contexts that it shows is reported.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from interp.config import from_dict
from interp.errors import DataError
from interp.evaluate.disentangle.config import DisentangleConfig
from interp.features.config import ExtractConfig
from interp.features.embeddings import ContextVectors
from interp.features.meanings import Meaning, Sense
from interp.features.scoring import Scoring
from interp.features.table import UnitTable
from interp.progress import Progress, silent
from interp.store import ActivationStore

NONE = -1
"""The number of what lies in no sense."""


@dataclass(frozen=True)
class SenseRows:
    """Random active rows of a neuron."""

    rows: dict[int, Int64[np.ndarray, " n"]]
    """By sense, `NONE` among them; ascending."""
    senses: list[Sense]
    """As the table has them."""
    agreement: float | None
    """Share of the contexts shown in the table that fall into their own sense; None without any."""


def sense_rows(
    store: ActivationStore,
    table: UnitTable,
    index: int,
    config: DisentangleConfig,
    progress: Progress = silent,
) -> SenseRows:
    """Find active rows of each sense of a neuron, at most ``config.rows`` a sense.

    Raises:
        DataError: the table has no senses of the neuron, or it is not active on any row.
    """
    meaning = table.meaning(index)
    if meaning is None or not meaning.senses:
        raise DataError(
            f"{table.address(index)} has no senses: no cluster of like contexts holds 5 % of its "
            "active tokens; choose a unit with senses"
        )
    draw = np.random.default_rng([config.seed, 0xD15E])
    active = _active(store, table, index, progress)
    if not len(active):
        raise DataError(f"{table.address(index)} is active on no row of store {store.name}")
    if len(active) > config.sample:
        active = draw.choice(active, config.sample, replace=False)
    else:
        active = draw.permutation(active)
    progress(store.rows, store.rows, "learning context embeddings")
    settings = from_dict(ExtractConfig, table.provenance.get("config", {}))
    vectors = Scoring(store, settings).vectors
    found = nearest(vectors, active, meaning)
    numbers = [*range(len(meaning.senses)), NONE]
    # The rows are in random order, so the first ones are a random choice.
    rows = {number: np.sort(active[found == number][: config.rows]) for number in numbers}
    return SenseRows(rows, meaning.senses, _agreement(table, index, meaning, vectors))


def nearest(
    vectors: ContextVectors, rows: Int64[np.ndarray, " n"], meaning: Meaning
) -> Int64[np.ndarray, " n"]:
    """The sense of each row, `NONE` for those that are like none of the exemplars."""
    exemplars = np.array([sense.exemplar for sense in meaning.senses], np.int64)
    (token, around), (own, near) = vectors.at(rows), vectors.at(exemplars)
    distance: Float64[np.ndarray, "n senses"] = np.maximum(1 - token @ own.T, 0) * np.maximum(
        1 - around @ near.T, 0
    )
    best = distance.argmin(axis=1)
    inside = distance[np.arange(len(rows)), best] <= meaning.alike_below
    return np.where(inside, best, NONE).astype(np.int64)


def _active(
    store: ActivationStore, table: UnitTable, index: int, progress: Progress
) -> Int64[np.ndarray, " n"]:
    neuron, sign = side(table, index)
    found: list[np.ndarray] = []
    for rows, values in store.blocks(table.site, sinks=False):
        found.append(rows[sign * values[:, neuron] > 0])
        progress(int(rows[-1]) + 1, store.rows, "finding active rows")
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def side(table: UnitTable, index: int) -> tuple[int, int]:
    """The neuron that a unit is of, and on which side of zero."""
    return (index // 2, 1 - 2 * (index % 2)) if table.signed else (index, 1)


def _agreement(
    table: UnitTable, index: int, meaning: Meaning, vectors: ContextVectors
) -> float | None:
    strata = table.contexts(index)
    rows, own = list[int](), list[int]()
    for number, sense in enumerate(meaning.senses):
        for stratum, place in sense.contexts.tolist():
            if place < len(strata[stratum].rows):
                rows.append(int(strata[stratum].rows[place]))
                own.append(number)
    if not rows:
        return None
    return float((nearest(vectors, np.array(rows, np.int64), meaning) == np.array(own)).mean())
