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
        f"{each}_purity_ratio": f"lowest {each} purity of the strata below the top tenth, "
        "divided by that of the top tenth"
        for each in ("token", "domain", "language")
    },
}


def purity(
    sample: Sample, codes: Int64[np.ndarray, " rows"]
) -> tuple[Float32[np.ndarray, "units strata"], np.ndarray, np.ndarray]:
    """Purity by stratum of `SHARES`, of all active rows, and worst over top; NaN where unknown.

    Args:
        sample: rows of every unit.
        codes: each row's token, domain or language as a number.
    """
    units = len(sample.rows)
    strata = np.full((units, len(SHARES)), np.nan, np.float32)
    whole, ratio = np.full(units, np.nan), np.full(units, np.nan)
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
        whole[unit] = (codes[rows] == kinds[counts.argmax()]).mean()
        lower = strata[unit, 2:]
        if not np.isnan(lower).all():
            ratio[unit] = np.nanmin(lower) / meant[top].mean()
    return strata, whole, ratio
