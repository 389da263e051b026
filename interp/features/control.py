"""Where a unit's score stands among random directions that are active as often.

Every extraction measures ``N`` random directions of the site besides the bases asked for, cut to
densities from ``DENSITIES``. For each score of each unit: the share of the ``NEAREST`` controls
nearest in log density that score lower, ties counting half. ½ is what a random direction has.
Units whose density lies outside the controls' by more than a factor of two have no percentile.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from interp.features.bases import RandomDirections, random_directions
from interp.store import ActivationStore

N = 192
DENSITIES = tuple(float(each) for each in 10 ** np.linspace(-3, -0.31, 12))
NEAREST = 48
OF = (
    "monosemanticity",
    "domains_effective",
    "languages_effective",
    "domain_auroc",
    "abstractness",
    "token_purity",
    "rule_auroc",
    "rule_one_auroc",
    "senses_effective",
    "logit_kurtosis",
    "logit_agreement",
)

SCORES = {
    f"{name}_control": f"share of random directions of like density whose {name} is lower"
    for name in OF
}


def controls(store: ActivationStore, site: str, seed: int) -> RandomDirections:
    """The random directions that scores are compared with; not those of the basis ``random``."""
    return random_directions(store, site, n=N, seed=seed + 1, densities=DENSITIES)


def percentiles(
    columns: Mapping[str, np.ndarray], control: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The columns of `SCORES` for which both sides have a score."""
    near = _nearest(columns["density"], control["density"])
    out: dict[str, np.ndarray] = {}
    for name in OF:
        if name not in columns or name not in control:
            continue
        score, other = columns[name][:, None], control[name][near]
        known = np.isfinite(other)
        lower = np.where(known, (other < score) + 0.5 * (other == score), 0).sum(axis=1)
        enough = (known.sum(axis=1) >= NEAREST // 2) & np.isfinite(score[:, 0])
        within = _within(columns["density"], control["density"][np.isfinite(control[name])])
        share = lower / np.maximum(known.sum(axis=1), 1)
        out[f"{name}_control"] = np.where(enough & within, share, np.nan)
    return out


def _nearest(
    density: Float[np.ndarray, " units"], control: Float[np.ndarray, " controls"]
) -> np.ndarray:
    """Places of the ``NEAREST`` controls of each unit."""
    order = np.argsort(control, kind="stable")
    ranked = np.log(np.maximum(control[order], 1e-12))
    wanted = np.log(np.maximum(density, 1e-12))
    count = min(NEAREST, len(control))
    # The nearest stand together in order of density; the window slides to balance its two ends.
    low = np.clip(np.searchsorted(ranked, wanted) - count // 2, 0, len(control) - count)
    for _ in range(count):
        up = np.minimum(low + count, len(control) - 1)
        right = (low + count < len(control)) & (ranked[up] - wanted < wanted - ranked[low])
        down = np.maximum(low - 1, 0)
        left = (low > 0) & (wanted - ranked[down] < ranked[low + count - 1] - wanted)
        low = low + right - (left & ~right)
    return order[low[:, None] + np.arange(count)]


def _within(density: np.ndarray, control: np.ndarray) -> np.ndarray:
    if not len(control):
        return np.zeros(len(density), dtype=bool)
    return (density >= control.min() / 2) & (density <= control.max() * 2)
