"""Choosing the contexts that stand for a unit: from all parts of its active range, not the top.

The strongest examples alone hide polysemanticity, so a unit's active tokens are cut by quantile
into strata and a few contexts are drawn from each. Candidates are the unit's strongest rows and
its random sample of active rows (see `interp.features.accumulate`).

1. Edges: the 1 %, 10 % and 50 % strongest active values, exact where the sample holds all active
   rows, else interpolated in the histogram.
2. ``top``: the strongest rows. The others: random candidates between their edges; where the sample
   holds too few, as in the top 1 % of a frequent unit, the strongest remaining rows fill up.
3. One context a document as long as there are enough documents.
"""

import numpy as np
from jaxtyping import Float, Float32, Int, Int64

STRATA = ("top", "top 1 %", "1-10 %", "10-50 %", "rest")
_EDGES = (0.01, 0.10, 0.50)


def quantile_edges(
    counts: Int64[np.ndarray, "units bins"],
    edges: Float32[np.ndarray, " edges"],
    sample: Float32[np.ndarray, "units kept"],
    largest: Float32[np.ndarray, " units"],
) -> Float[np.ndarray, "units 3"]:
    """Values above which 1 %, 10 % and 50 % of each unit's active tokens lie.

    Args:
        counts: histogram of each unit.
        edges: of its bins.
        sample: values of the random sample, 0 where there is none.
        largest: each unit's maximum, to which the last bin in use reaches.
    """
    active = counts.sum(axis=1)
    above = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]  # tokens in this bin or a higher one
    out = np.zeros((len(counts), len(_EDGES)))
    exact = active <= sample.shape[1]
    ranked = -np.sort(-sample, axis=1)
    units = np.arange(len(counts))
    for column, share in enumerate(_EDGES):
        rank = share * active
        place = np.maximum((above >= rank[:, None]).sum(axis=1) - 1, 0)
        inside = np.maximum(counts[units, place], 1)
        higher = above[units, place] - counts[units, place]
        fraction = np.clip((rank - higher) / inside, 0, 1)
        low = edges[place].astype(np.float64)
        high = np.maximum(np.minimum(edges[place + 1], largest), low)
        smooth = high - fraction * (high - low)
        # Exactly: the value at this rank is the first of the next stratum.
        index = np.minimum(np.floor(rank + 1e-9).astype(int), sample.shape[1] - 1)
        out[:, column] = np.where(exact, ranked[units, index], smooth)
    return out


def choose(
    strongest: tuple[Int64[np.ndarray, "units top"], Float32[np.ndarray, "units top"]],
    sample: tuple[Int64[np.ndarray, "units kept"], Float32[np.ndarray, "units kept"]],
    edges: Float[np.ndarray, "units 3"],
    documents: Int[np.ndarray, " rows"],
    keep: int,
) -> tuple[Int64[np.ndarray, "units strata keep"], Float32[np.ndarray, "units strata keep"]]:
    """Rows (-1 = none) and values of the chosen contexts, strongest first within each stratum.

    Args:
        strongest: rows and values, largest value first.
        sample: rows and values in random order.
        edges: of `quantile_edges`.
        documents: each row's document.
        keep: contexts per stratum.
    """
    # Random candidates first: within a stratum a lower place is preferred.
    rows = np.concatenate([sample[0], strongest[0]], axis=1)
    values = np.concatenate([sample[1], strongest[1]], axis=1)
    document = np.where(rows >= 0, documents[np.maximum(rows, 0)], -1).astype(np.int64)
    top = _first_per_document(strongest[0], document[:, sample[0].shape[1] :], keep)
    units = len(rows)
    out_rows = np.full((units, len(STRATA), keep), -1, np.int64)
    out_values = np.zeros((units, len(STRATA), keep), np.float32)
    _fill(out_rows, out_values, 0, strongest[0], strongest[1], top)
    taken = _among(rows, out_rows[:, 0])
    twice = _repeated(rows)
    stratum = 1 + (values[:, :, None] <= edges[:, None, :]).sum(axis=2)
    for number in range(1, len(STRATA)):
        usable = (rows >= 0) & ~taken & ~twice & (stratum == number)
        candidates = np.where(usable, rows, -1)
        _fill(
            out_rows,
            out_values,
            number,
            candidates,
            values,
            _first_per_document(candidates, document, keep),
        )
    return out_rows, out_values


def _first_per_document(rows: np.ndarray, document: np.ndarray, keep: int) -> np.ndarray:
    """Places of the first candidates, first one a document, then further ones; by preference."""
    count = rows.shape[1]
    place = np.arange(count)
    # Within each document (sorted stably), all but the first candidate are repeats.
    key = np.where(rows >= 0, document, -1)
    order = np.argsort(key, axis=1, kind="stable")
    ordered = np.take_along_axis(key, order, axis=1)
    again = np.zeros_like(ordered, dtype=bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeat = np.empty_like(again)
    np.put_along_axis(repeat, order, again, axis=1)
    rank = place + count * repeat + 2 * count * (rows < 0)
    return np.argsort(rank, axis=1, kind="stable")[:, :keep]


def _fill(
    out_rows: np.ndarray,
    out_values: np.ndarray,
    number: int,
    rows: np.ndarray,
    values: np.ndarray,
    places: np.ndarray,
) -> None:
    chosen = np.take_along_axis(rows, places, axis=1)
    value = np.where(chosen >= 0, np.take_along_axis(values, places, axis=1), 0)
    order = np.argsort(-value, axis=1, kind="stable")
    width = chosen.shape[1]
    out_rows[:, number, :width] = np.take_along_axis(chosen, order, axis=1)
    out_values[:, number, :width] = np.take_along_axis(value, order, axis=1)


def _among(rows: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    found = np.zeros(rows.shape, dtype=bool)
    for column in range(chosen.shape[1]):
        found |= (rows == chosen[:, column, None]) & (rows >= 0)
    return found


def _repeated(rows: np.ndarray) -> np.ndarray:
    """Rows that stand a second time in the same line."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    again = np.zeros(rows.shape, dtype=bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    out = np.empty_like(again)
    np.put_along_axis(out, order, again, axis=1)
    return out
