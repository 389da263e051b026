"""How well a dictionary reconstructs rows it was not trained on.

With N rows x_i, their own mean x̄ and reconstructions x̂_i, all in float64 sums over the stream:

    FVE  = 1 - Σ‖x_i - x̂_i‖² / (Σ‖x_i‖² - N‖x̄‖²)      fraction of variance explained, centred
    MSE  = Σ‖x_i - x̂_i‖² / N                           per row, summed over dimensions
    L0   = Σ #{z_i > 0} / N
    density_j = #{i : z_ij > 0} / N;  a latent is dead here if that is 0

For a transcoder x is its target. Where several sites are reconstructed together, ``fve`` counts
their raw activations as one, so the longest weigh most; ``fve_by_site`` is each one's own.

Dead is a statement about these N rows (``rows`` says how many): a latent rarer than about 1/N
looks dead. Sinks (rows the capture marked) are left out, as in training.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from interp.errors import DataError
from interp.products import faster_products
from interp.sae.base import Dictionary
from interp.sae.survey import check_finite, check_rows
from interp.store import ActivationStore
from interp.store.activations import Split
from interp.store.site import columns

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
    fve_by_site: dict[str, float] = field(default_factory=dict[str, float])
    """FVE of each site, where several are reconstructed together."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; ``fve_by_site`` only where there is one."""
        values = {key: _plain(value) for key, value in asdict(self).items()}
        return {key: value for key, value in values.items() if value != {}}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value  # type: ignore[reportUnknownArgumentType]


@faster_products()
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
        site: by default the dictionary's own; a transcoder's target is its own in any case.
        split: which rows; figures worth quoting come from ``heldout``.

    Raises:
        UnknownName: no such site.
        DataError: fewer than two rows, NaN, or a site of another width.
    """
    origin = replace(dictionary.origin, site=site or dictionary.origin.site)
    place, written = store.site(origin.reads), store.parts(store.site(origin.writes))
    start = place.width - sum(part.width for part in written)  # where the target begins, or 0
    check_rows(store, split)
    device = dictionary.W_enc.device
    fired = torch.zeros(dictionary.n_latents, dtype=torch.int64, device=device)
    total = np.zeros(place.width - start)
    by_column = np.zeros((2, place.width - start))  # squared errors and squares, if parts need them
    squares = errors = 0.0
    rows = 0
    for numbers, block in store.blocks(place.name, split=split, sinks=False):
        check_finite(store, place, numbers, block)
        total += block[:, start:].sum(axis=0, dtype=np.float64)
        for first in range(0, len(block), 2048):
            read = torch.from_numpy(block[first : first + 2048]).to(device, torch.float32)
            x, source = read[:, start:], read[:, :start] if start else read
            z = dictionary.encode(source)
            fired += (z > 0).sum(dim=0)
            error = (x.double() - dictionary.complete(source, z).double()).square()
            errors += float(error.sum())
            squares += float(x.double().square().sum())
            if len(written) > 1:
                by_column[0] += error.sum(dim=0).cpu().numpy()
                by_column[1] += x.double().square().sum(dim=0).cpu().numpy()
        rows += len(block)
    counts = fired.cpu().numpy()
    fve = _fve(errors, squares, total, rows, origin.writes)
    by_site: dict[str, float] = {}
    if len(written) > 1:
        for part, some in zip(written, columns(part.width for part in written), strict=True):
            left, size = by_column[:, some].sum(axis=1).tolist()
            by_site[part.name] = _fve(left, size, total[some], rows, part.name)
    alive = counts[counts > 0]
    histogram, _ = np.histogram(np.clip(np.log10(alive / rows), EDGES[0], EDGES[-1]), EDGES)
    dead = int((counts == 0).sum())
    return Reconstruction(
        split=split,
        rows=rows,
        fve=fve,
        mse=errors / rows,
        l0=float(counts.sum()) / rows,
        dead=dead,
        dead_fraction=dead / len(counts),
        latents=len(counts),
        density_histogram=tuple(int(count) for count in histogram),
        fve_by_site=by_site,
    )


def _fve(errors: float, squares: float, total: np.ndarray, rows: int, site: str) -> float:
    spread = squares - rows * float(np.square(total / rows).sum())
    if spread <= 0:
        raise DataError(
            f"the rows of {site} that were measured are constant, so the fraction of variance "
            "explained has no meaning; capture more documents"
        )
    return 1 - errors / spread
