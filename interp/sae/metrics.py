"""How well a dictionary reconstructs rows it was not trained on.

With N rows x_i, their own mean x̄ and reconstructions x̂_i, all in float64 sums over the stream:

    FVE  = 1 - Σ‖x_i - x̂_i‖² / (Σ‖x_i‖² - N‖x̄‖²)      fraction of variance explained, centred
    MSE  = Σ‖x_i - x̂_i‖² / N                           per row, summed over dimensions
    L0   = Σ #{z_i > 0} / N
    density_j = #{i : z_ij > 0} / N;  a latent is dead here if that is 0

Dead is a statement about these N rows (``rows`` says how many): a latent rarer than about 1/N
looks dead. Sinks (rows the capture marked) are left out, as in training.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from interp.errors import DataError
from interp.sae.base import Dictionary
from interp.sae.survey import check_finite, check_rows
from interp.store import ActivationStore
from interp.store.activations import Split

EDGES = np.linspace(-7, 0, 29)
"""Edges of the histogram of log10 density: quarter decades from 1e-7 to 1."""


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Reconstruction of one split of a store; the module's docstring has the formulas."""

    split: str
    """Which rows: heldout, train or all."""
    rows: int
    """How many."""
    fve: float
    """Fraction of variance explained, centred; 1 is perfect, 0 as good as the mean."""
    mse: float
    """Mean over rows of the squared distance."""
    l0: float
    """Mean number of active latents."""
    dead: int
    """Latents that never fired on these rows."""
    dead_fraction: float
    """The same as a share of all latents."""
    latents: int
    """Number of latents."""
    density_histogram: tuple[int, ...]
    """Latents per quarter decade of density from 1e-7 to 1; dead ones are in no bin."""
    density_edges: tuple[float, ...] = tuple(float(edge) for edge in EDGES)
    """log10 of the bins' edges."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value  # type: ignore[reportUnknownArgumentType]


@torch.inference_mode()
def reconstruction(
    dictionary: Dictionary,
    store: ActivationStore,
    site: str | None = None,
    split: Split = "heldout",
) -> Reconstruction:
    """Measure a dictionary on a split of a store, on the device where the dictionary is.

    Args:
        dictionary: the dictionary.
        store: the store.
        site: by default the dictionary's own.
        split: which rows; figures worth quoting come from ``heldout``.

    Raises:
        UnknownName: no such site.
        DataError: fewer than two rows, NaN, or a site of another width.
    """
    place = store.site(site or dictionary.origin.site)
    check_rows(store, split)
    device = dictionary.W_enc.device
    fired = torch.zeros(dictionary.n_latents, dtype=torch.int64, device=device)
    total = np.zeros(place.width)
    squares = errors = 0.0
    rows = 0
    for numbers, block in store.blocks(place.name, split=split, sinks=False):
        check_finite(store, place, numbers, block)
        total += block.sum(axis=0, dtype=np.float64)
        for start in range(0, len(block), 2048):
            x = torch.from_numpy(block[start : start + 2048]).to(device, torch.float32)
            z = dictionary.encode(x)
            fired += (z > 0).sum(dim=0)
            errors += float((x.double() - dictionary.decode(z).double()).square().sum())
            squares += float(x.double().square().sum())
        rows += len(block)
    counts = fired.cpu().numpy()
    spread = squares - rows * float(np.square(total / rows).sum())
    if spread <= 0:
        raise DataError(
            f"the {split} rows of {place.name} in store {store.name} are constant, so the "
            "fraction of variance explained has no meaning; capture more documents"
        )
    alive = counts[counts > 0]
    histogram, _ = np.histogram(np.clip(np.log10(alive / rows), EDGES[0], EDGES[-1]), EDGES)
    dead = int((counts == 0).sum())
    return Reconstruction(
        split=split,
        rows=rows,
        fve=1 - errors / spread,
        mse=errors / rows,
        l0=float(counts.sum()) / rows,
        dead=dead,
        dead_fraction=dead / len(counts),
        latents=len(counts),
        density_histogram=tuple(int(count) for count in histogram),
    )
