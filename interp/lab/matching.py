"""Comparing two sets of units: whose scores are higher, whose activations agree.

superiority        P(a > b) + P(a = b) / 2 for a of one set and b of the other: Mann-Whitney's U
                   as a share; ½ where there is no difference
best correlation   of each unit, the greatest Pearson correlation with any unit of the other
                   set, over the same rows (Bricken et al. 2023, on universality)
SparseNeurons      neurons cut so that they are as rarely active as some latents, because most
                   scores depend on density
"""

from collections.abc import Iterable

import numpy as np
import torch
from einops import reduce
from jaxtyping import Float, Float64
from scipy.stats import rankdata
from torch import Tensor

from interp.errors import DataError
from interp.features.bases import hash_tensors


def superiority(a: Float[np.ndarray, " m"], b: Float[np.ndarray, " n"]) -> float:
    """How often a value of the one exceeds one of the other; NaN values are left out.

    Raises:
        DataError: nothing is left of one.
    """
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if not len(a) or not len(b):
        raise DataError("no unit has this score; read more tokens")
    ranks = rankdata(np.concatenate([a, b]))[: len(a)]
    return float((ranks.sum() - len(a) * (len(a) + 1) / 2) / (len(a) * len(b)))


def best_correlations(
    blocks: Iterable[tuple[Float[Tensor, "row unit"], Float[Tensor, "row other"]]],
) -> Float64[np.ndarray, " unit"]:
    """The best correlation of every unit of the first set; NaN for one that never varies.

    Args:
        blocks: activations of both sets on the same rows, some rows at a time.

    Raises:
        DataError: there are no rows.
    """
    rows = 0
    products, sums, squares = torch.zeros(()), [torch.zeros(())] * 2, [torch.zeros(())] * 2
    for pair in blocks:
        rows += len(pair[0])
        products = products + (pair[0].T @ pair[1]).double()
        for i, z in enumerate(pair):
            sums[i] = sums[i] + reduce(z.double(), "row unit -> unit", "sum")
            squares[i] = squares[i] + reduce(z.double().square(), "row unit -> unit", "sum")
    if not rows:
        raise DataError("there are no rows to correlate; read more tokens")
    means = [each / rows for each in sums]
    spreads = [
        (each / rows - mean.square()).clamp_min(0).sqrt()
        for each, mean in zip(squares, means, strict=True)
    ]
    covariance = products / rows - means[0][:, None] * means[1]
    scale = spreads[0][:, None] * spreads[1]
    correlation = torch.where(scale > 0, covariance / scale, torch.nan).numpy()
    found = np.where(np.isnan(correlation), -np.inf, correlation).max(axis=1)
    return np.where(np.isfinite(found), found, np.nan)


class SparseNeurons:
    """Neuron i passes its value on where it is among the top ``densities[i]`` of a sample."""

    name = kind = "sparse-neurons"
    signed = False

    def __init__(
        self,
        site: str,
        sample: Float[Tensor, "rows width"],
        densities: Float[np.ndarray, " width"],
    ) -> None:
        """Measure the thresholds.

        Args:
            site: short name of the site.
            sample: rows of it.
            densities: the share of rows on which each neuron is to be active.
        """
        self.site, self.n_units = site, sample.shape[1]
        kept = np.clip(np.round(densities * len(sample)).astype(int), 1, len(sample) - 1)
        ranked = sample.sort(dim=0, descending=True).values
        self._threshold = ranked[torch.from_numpy(kept), torch.arange(self.n_units)].clamp_min(0)
        self.fingerprint = hash_tensors([self._threshold])

    def encode(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        """Values above their thresholds, the rest zero."""
        return x * (x > self._threshold)

    def directions(self) -> Float[Tensor, "width width"]:
        """Unit vectors."""
        return torch.eye(self.n_units)

    def label(self, index: int) -> str:
        """The index."""
        return str(index)
