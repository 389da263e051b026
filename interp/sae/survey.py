"""One look at a site before training: are its rows usable, where is their centre, how far spread.

The geometric median (the point of least total distance, far less moved by outliers than the mean)
is found by Weiszfeld's iteration: m ← Σ x_i/‖x_i - m‖ / Σ 1/‖x_i - m‖.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from interp.errors import DataError
from interp.store import ActivationStore, Site
from interp.store.activations import Split
from interp.store.site import columns

SAMPLE_ROWS = 8192


@dataclass(frozen=True)
class Survey:
    """What a training run needs to know of its data, measured on training rows without sinks."""

    rows: int
    mean: Float64[np.ndarray, " d_in"]
    sample: Float32[np.ndarray, "m d_in"]
    widths: tuple[int, ...] = ()
    """Of a joint site's parts; empty for a single site."""

    def parts(self) -> list["Survey"]:
        """The survey of each part of a joint site; of a single site, itself."""
        if len(self.widths) < 2:
            return [self]
        return [
            Survey(self.rows, self.mean[some], self.sample[:, some])
            for some in columns(self.widths)
        ]

    def centre(self) -> Float64[Tensor, " d_in"]:
        """The sample's geometric median, of a joint site each part's own."""
        return self._median

    @cached_property
    def _median(self) -> Float64[Tensor, " d_in"]:
        samples = [torch.from_numpy(part.sample) for part in self.parts()]
        return torch.cat([geometric_median(sample) for sample in samples])

    def spread(self) -> float:
        """E‖x - E x‖² over the sample."""
        sample = self.sample.astype(np.float64)
        return float(np.square(sample - sample.mean(axis=0)).sum(axis=1).mean())


def survey(store: ActivationStore, site: Site, *, seed: int, sample: int = SAMPLE_ROWS) -> Survey:
    """Read every training row of a site once, in order.

    Raises:
        DataError: fewer than two rows, a NaN or infinity (naming the row), or a constant site.
    """
    check_rows(store, "train")
    check_rows(store, "heldout")
    rows = store.rows_of("train")
    draw = np.random.default_rng([seed, 71])
    wanted = np.sort(draw.choice(rows, size=min(sample, len(rows)), replace=False))
    total = np.zeros(site.width)
    kept: list[np.ndarray] = []
    for numbers, block in store.blocks(site.name, split="train", sinks=False):
        check_finite(store, site, numbers, block)
        total += block.sum(axis=0, dtype=np.float64)
        kept.append(block[np.isin(numbers, wanted, assume_unique=True)])
    places = store.parts(site)
    widths = tuple(place.width for place in places)
    sampled = np.concatenate(kept).astype(np.float32)
    found = Survey(len(rows), total / len(rows), sampled, widths)
    for place, part in zip(places, found.parts(), strict=True):
        if part.spread() == 0:
            raise DataError(
                f"site {place.name} of store {store.name} is constant over its training rows; "
                "there is nothing to learn, capture another site"
            )
    return found


def check_rows(store: ActivationStore, split: Split) -> None:
    """Refuse a split with fewer than two rows.

    Raises:
        DataError: so few.
    """
    count = len(store.rows_of(split))
    if count < 2:
        raise DataError(
            f"store {store.name} has {count} usable {split} rows; at least two are needed, "
            "capture more documents"
        )


def check_finite(
    store: ActivationStore, site: Site, numbers: np.ndarray, block: np.ndarray
) -> None:
    """Refuse a block that holds NaN or infinity.

    Raises:
        DataError: names the site and the first such row.
    """
    bad = ~np.isfinite(block).all(axis=1)
    if bad.any():
        raise DataError(
            f"site {site.name} of store {store.name} holds NaN or infinity, first in row "
            f"{int(numbers[bad.argmax()])}; capture it again"
        )


def geometric_median(
    x: Float[Tensor, "n d_in"], *, steps: int = 200, tolerance: float = 1e-6
) -> Float64[Tensor, " d_in"]:
    """The point whose summed Euclidean distance to the rows is least (Weiszfeld), in float64.

    Stops when a step moves it by less than ``tolerance`` of the rows' mean distance.
    """
    rows = x.double()
    median = rows.mean(dim=0)
    for _ in range(steps):
        distance = (rows - median).norm(dim=1)
        typical = distance.mean()
        if typical == 0:
            break
        weight = 1 / distance.clamp_min(1e-12 * typical)  # a row on the median itself
        moved = (weight[:, None] * rows).sum(dim=0) / weight.sum()
        shift = (moved - median).norm()
        median = moved
        if shift <= tolerance * typical:
            break
    return median
