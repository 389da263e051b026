"""How well an explanation tells a unit's active contexts from silent ones it was not made from.

The detection test of automated interpretability, with the definitions of `interp.features.rules`:

1. Recall = share of active contexts that the explanation is said to fit; false alarms = the same
   share of silent ones. No answer counts as no.
2. Precision = recall / (recall + false alarms), that among as many active as silent rows; balanced
   accuracy = (1 + recall - false alarms) / 2, which for a yes-or-no judgement is the AUROC. ½ is
   chance.
3. The 95 % interval of balanced accuracy is that of the difference of the two shares after one
   success and one failure have been added to each (Agresti & Caffo 2000), contexts taken as
   independent. It judges the explanation and the judge together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Held-out figures of one explanation."""

    active: int
    """Active contexts judged."""
    silent: int
    """Silent contexts judged."""
    unanswered: int
    """Contexts without a usable answer, which count as no."""
    recall: float
    precision: float | None
    """None where nothing was said to fit."""
    balanced_accuracy: float
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end."""


def detection(active: Sequence[bool | None], silent: Sequence[bool | None]) -> Detection:
    """Figures of answers for active and for silent contexts; at least one of either."""
    n, m = len(active), len(silent)
    hits, false = sum(each is True for each in active), sum(each is True for each in silent)
    recall, alarm = hits / n, false / m
    p, q = (hits + 1) / (n + 2), (false + 1) / (m + 2)
    half = Z * float(np.sqrt(p * (1 - p) / (n + 2) + q * (1 - q) / (m + 2)))
    return Detection(
        active=n,
        silent=m,
        unanswered=sum(each is None for each in [*active, *silent]),
        recall=recall,
        precision=recall / (recall + alarm) if hits + false else None,
        balanced_accuracy=(1 + recall - alarm) / 2,
        low=max((1 + p - q - half) / 2, 0.0),
        high=min((1 + p - q + half) / 2, 1.0),
    )
