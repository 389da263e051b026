"""Purity by stratum: does a unit mean below its top what it means at its top?

Top examples alone hide polysemanticity. The token, domain and language most common among the
strongest tenth of a unit's active rows is its *meaning at the top*; purity is the share of rows
that have it, stratum by stratum. Worst over top is 1 where weak activations mean the same, near 0
where only the strongest do. Below the top the rows are a random sample; inside the top tenth the
strongest rows are over-represented.
"""

from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float32, Int64
from numpy.typing import NDArray

from interp.compiled import compiled
from interp.features.contexts import STRATA
from interp.features.jackknife import GROUPS
from interp.features.sample import Sample
from interp.sae.kernels.compiled import even, share

Array = NDArray[Any]

SHARES = STRATA[1:]
"""Strata of active rows, each with its purity."""
LEAST = 5
"""Rows a stratum needs."""

SCORES = {
    **{
        f"{each}_purity": f"share of active rows with the {each} most common in the strongest tenth"
        for each in ("token", "domain", "language")
    },
    **{
        f"{each}_purity_se": "its standard error, by a jackknife over eight groups of documents, "
        f"the {each} taken as known"
        for each in ("token", "domain", "language")
    },
    **{
        f"{each}_purity_ratio": f"lowest {each} purity of the strata below the top tenth, "
        "divided by that of the top tenth"
        for each in ("token", "domain", "language")
    },
}


def purity(
    sample: Sample, codes: Int64[np.ndarray, " rows"], groups: Int64[np.ndarray, " rows"]
) -> tuple[Float32[np.ndarray, "units strata"], np.ndarray, np.ndarray, np.ndarray]:
    """Purity by stratum of `SHARES`, of all active rows, its error, worst over top; NaN if unknown.

    Args:
        sample: rows of every unit.
        codes: each row's token, domain or language as a number.
        groups: group of each row's document, see `interp.features.jackknife`.
    """
    scored, units = np.flatnonzero(sample.enough), len(sample.rows)
    # Rows and rows with the meaning: by stratum, of the sample by group.
    by_stratum = np.zeros((2, units, len(SHARES)), np.int64)
    by_group = np.zeros((2, units, GROUPS), np.int64)
    both = np.concatenate([sample.rows, sample.top_rows], axis=1)
    strength = np.concatenate([sample.values, sample.top_values], axis=1)
    share(
        _count, even(len(scored)), scored, both, sample.rows.shape[1], strength, sample.edges,
        codes, groups, by_stratum, by_group,
    )  # fmt: skip
    size, meant = by_stratum
    strata = np.where(size >= LEAST, meant / np.maximum(size, 1), np.nan).astype(np.float32)
    at_top, rows = meant[:, :2].sum(axis=1) / np.maximum(size[:, :2].sum(axis=1), 1), by_group[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = by_group[1].sum(axis=1) / rows.sum(axis=1)
        ratio = np.fmin.reduce(strata[:, 2:], axis=1) / at_top
    return strata, whole, _error(*by_group), ratio


def _error(rows: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """As `interp.features.jackknife` has it, over the groups in which a unit has rows."""
    there = rows > 0
    count = there.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rest = (hits.sum(axis=1)[:, None] - hits) / (rows.sum(axis=1)[:, None] - rows)
        mean = np.where(there, rest, 0).sum(axis=1) / count
        spread = np.where(there, np.square(rest - mean[:, None]), 0).sum(axis=1)
        return np.where(count > 1, np.sqrt((count - 1) / count * spread), np.nan)


@compiled
@no_type_check
def _count(
    first: int,
    last: int,
    scored: Array,
    both: Array,
    kept: int,
    strength: Array,
    edges: Array,
    codes: Array,
    groups: Array,
    by_stratum: Array,
    by_group: Array,
) -> None:
    """Count the rows of units ``scored[first:last]`` whose top tenth has at least ``LEAST``.

    A unit's rows are the ``kept`` of its sample, then its strongest; some are among both.
    """
    stratum, top = np.empty(both.shape[1], np.int64), np.empty(both.shape[1], np.int64)
    for unit in scored[first:last]:
        size = 0
        stratum[:] = -1
        order = np.argsort(both[unit], kind="mergesort")
        before = -1
        for i in order:
            row = both[unit, i]
            if row == before or row < 0:
                continue
            before, stratum[i] = row, 0
            for edge in edges[unit]:
                stratum[i] += strength[unit, i] <= edge
            if stratum[i] <= 1:
                top[size] = codes[row]
                size += 1
        if size < LEAST:
            continue
        kind = _commonest(top[:size])
        for i in range(both.shape[1]):
            row = both[unit, i]
            if row < 0:
                continue
            meant = codes[row] == kind
            if stratum[i] >= 0:
                by_stratum[0, unit, stratum[i]] += 1
                by_stratum[1, unit, stratum[i]] += meant
            if i < kept:
                by_group[0, unit, groups[row]] += 1
                by_group[1, unit, groups[row]] += meant


@compiled
@no_type_check
def _commonest(codes: Array) -> int:
    """The lowest of the most frequent values."""
    ordered = np.sort(codes)
    best = most = begin = 0
    for i in range(1, len(ordered) + 1):
        if i == len(ordered) or ordered[i] != ordered[begin]:
            if i - begin > most:
                best, most = ordered[begin], i - begin
            begin = i
    return best
