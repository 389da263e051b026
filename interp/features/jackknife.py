"""Standard errors by the jackknife over groups of documents.

Rows of one document are no independent draws, documents are. They are dealt at random into
``GROUPS`` groups; what a statistic gives when one group after the other is left out says how far
it would differ on other documents (Quenouille 1956; Tukey 1958): with G groups,

    se² = (G - 1) / G · Σ (θ₍₋g₎ - mean)²
"""

import numpy as np
from jaxtyping import Float, Float64

GROUPS = 8


def jackknife_error(
    parts: Float[np.ndarray, "groups units"],
) -> Float64[np.ndarray, " units"]:
    """Standard error of a statistic from its values with each group left out.

    NaN where there are fewer than two groups, or one leaves nothing to compute it from.
    """
    count = len(parts)
    if count < 2:
        return np.full(parts.shape[1], np.nan)
    spread = np.square(parts - parts.mean(axis=0)).sum(axis=0)
    return np.sqrt((count - 1) / count * spread)
