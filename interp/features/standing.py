"""Bases side by side on every score: neurons, dictionaries and controls of one site. No torch.

1. Dead and rare units have no score and are left out; how many have one is told.
2. Of each basis the median unit, with a 95 % interval from the order statistics that the binomial
   distribution with p = ½ gives (the sign test turned round): no assumption about the scores'
   distribution, but the units are taken as independent, which latents that split one feature are
   not.
3. Most scores depend on density, so the median of ``<score>_control`` stands beside it: the share
   of random directions *of like density* that score lower. It is the fair comparison between
   bases; ½ is no different from a random direction.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import binom

from interp.features.units import Units

SCORES = {
    "monosemanticity": "higher",
    "senses_effective": "lower",
    "senses_share": "higher",
    "token_purity": "higher",
    "token_share": "higher",
    "token_purity_ratio": "higher",
    "rule_auroc": "higher",
    "rule_one_auroc": "higher",
    "domains_effective": "lower",
    "domain_auroc": "higher",
    "languages_effective": "lower",
    "language_auroc": "higher",
    "logit_agreement": "higher",
    "logit_kurtosis": "higher",
    "abstractness": "no purity",
}
"""The scores that are compared, and on which side of them purer units lie."""


def side_by_side(units: Units, scores: Sequence[str] = ()) -> list[dict[str, Any]]:
    """One row a score and basis.

    Args:
        units: of one site, as `open_units` gives them.
        scores: columns; by default those of `SCORES` that any unit has.

    Returns:
        Rows of score, the side on which purer units lie, basis, units scored, their median with
        its interval, and the same of their control percentile (None where no control has the
        density).

    Raises:
        UnknownName: no table has such a column.
    """
    known = {column for table in units.tables for column in table.columns}
    rows: list[dict[str, Any]] = []
    for score in scores or [name for name in SCORES if name in known]:
        column = units.column(score)  # refuses a name that no table has
        if not scores and not np.isfinite(column).any():
            continue  # such as languages in a corpus of one
        for table in units.tables:
            found, count = _median(table.columns.get(score))
            control, _ = _median(table.columns.get(f"{score}_control"))
            rows.append(
                {
                    "score": score,
                    "purer": SCORES.get(score, "-"),
                    "basis": table.basis,
                    "scored": count,
                    "median": found and found[0],
                    "interval": found and found[1:],
                    "control": control and control[0],
                    "control_interval": control and control[1:],
                }
            )
    return rows


def _median(
    column: Float[np.ndarray, " units"] | None,
) -> tuple[tuple[float, float, float] | None, int]:
    """Median and interval of the finite values, if there are any, and their number."""
    if column is None:
        return None, 0
    values = np.sort(np.asarray(column, np.float64)[np.isfinite(column)])
    if not len(values):
        return None, 0
    low, high = (int(rank) for rank in binom.interval(0.95, len(values), 0.5))
    edges = values[max(low - 1, 0)], values[min(high, len(values) - 1)]
    return (float(np.median(values)), float(edges[0]), float(edges[1])), len(values)
