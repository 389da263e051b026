"""Purity by stratum: does a unit mean below its top what it means at its top?

Top examples alone hide polysemanticity. The token, domain and language most common among the
strongest tenth of a unit's active rows is its *meaning at the top*; purity is the share of rows
that have it, stratum by stratum. Worst over top is 1 where weak activations mean the same, near 0
where only the strongest do. Below the top the rows are a random sample; inside the top tenth the
strongest rows are over-represented.
"""

import numpy as np
from jaxtyping import Float32, Int64

from interp.features.contexts import STRATA
from interp.features.jackknife import GROUPS, jackknife_error
from interp.features.sample import Sample

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
    units = len(sample.rows)
    strata = np.full((units, len(SHARES)), np.nan, np.float32)
    whole, error, ratio = (np.full(units, np.nan) for _ in range(3))
    for unit in sample.scored():
        rows, values = sample.of(unit)
        known = sample.top_rows[unit] >= 0
        both = np.concatenate([rows, sample.top_rows[unit][known]])
        both, first = np.unique(both, return_index=True)
        strength = np.concatenate([values, sample.top_values[unit][known]])[first]
        stratum = (strength[:, None] <= sample.edges[unit]).sum(axis=1)
        top = stratum <= 1
        if top.sum() < LEAST:
            continue
        kinds, counts = np.unique(codes[both[top]], return_counts=True)
        meant = codes[both] == kinds[counts.argmax()]
        for number in range(len(SHARES)):
            here = stratum == number
            if here.sum() >= LEAST:
                strata[unit, number] = meant[here].mean()
        hit, group = codes[rows] == kinds[counts.argmax()], groups[rows]
        whole[unit] = hit.mean()
        size, hits = (np.bincount(group, weights, GROUPS) for weights in (None, hit))
        if np.count_nonzero(size) > 1:
            rest = (hit.sum() - hits)[size > 0] / (len(rows) - size[size > 0])
            error[unit] = jackknife_error(rest[:, None])[0]
        lower = strata[unit, 2:]
        if not np.isnan(lower).all():
            ratio[unit] = np.nanmin(lower) / meant[top].mean()
    return strata, whole, error, ratio
