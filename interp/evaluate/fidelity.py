"""How faithfully rows come back, under every definition in use, and how the units are used.

Over N held-out rows x_i without sinks, reconstructions x̂_i, errors e_i = x_i - x̂_i, d dimensions;
x̄ and ē are means over the rows:

    fve                      1 - Σ‖e‖² / (Σ‖x‖² - N‖x̄‖²)                       centred: quote this
    fve_uncentred            1 - Σ‖e‖² / Σ‖x‖²                                 rewards a large mean
    fve_blind_to_bias        1 - (Σ‖e‖² - N‖ē‖²) / (Σ‖x‖² - N‖x̄‖²)             dictionary_learning's
    fve_saebench             1 - Σ‖e‖² / (Σ‖x‖² - N (Σ‖x‖² / (N d))²)          SAEBench's at 8042bb3
    mse                      Σ‖e‖² / N
    cosine                   mean of cos(x, x̂)
    length_ratio             mean of ‖x̂‖ / ‖x‖
    length_bias              Σ‖x̂‖² / Σ⟨x, x̂⟩
    l0                       mean number of units above 0
    density_j                share of rows where unit j is above 0; dead if 0 on these rows
    dense_fraction           share of units with density above 0.1
    redundancy               max over j ≠ i of cos(d_i, d_j) for each unit i that is not dead, over
                             units that are not dead; of |cos| between the directions of a signed
                             basis, whose + and - sides are one direction

SAEBench's denominator can be negative: its value then says nothing, and is given as it comes out.
Rows of zero have no cosine and no ratio, and count in neither.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from interp.errors import DataError
from interp.evaluate.candidate import Candidate, same_sites
from interp.products import faster_products
from interp.progress import Progress, silent
from interp.sae import Reconstruction
from interp.sae.metrics import EDGES
from interp.sae.survey import check_finite, check_rows
from interp.store import ActivationStore, Site
from interp.store.site import columns

QUANTILES = (0.05, 0.5, 0.95)
DENSE = 0.1
CLOSE = 0.9
BATCH = 2048


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """What `Reconstruction` leaves out; the module's docstring has the formulas."""

    fve_uncentred: float
    """Against the length of rows, not their variance."""
    fve_blind_to_bias: float
    """A constant error costs nothing."""
    fve_saebench: float | None
    """As SAEBench computed it; None where its denominator is 0."""
    cosine: float | None
    """Mean cosine of row and reconstruction; None where no row has one."""
    length_ratio: float | None
    """Mean ratio of lengths, reconstruction to row; below 1 is shrinkage."""
    length_bias: float | None
    """The factor by which reconstructions are too long, weighted by length."""
    density_quantiles: tuple[float, ...] | None
    """5, 50 and 95 % of the density of units that are not dead."""
    dense_fraction: float
    """Share of units with density above 0.1."""
    redundancy_mean: float | None
    """Mean over units that are not dead; None with fewer than two."""
    redundancy_quantiles: tuple[float, ...] | None
    """5, 50 and 95 %."""
    redundant_fraction: float | None
    """Share of those units with another at a cosine above 0.9."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Measured:
    """One candidate on the held-out rows."""

    heldout: Reconstruction
    fidelity: Fidelity
    alive: Bool[np.ndarray, " units"]
    """Units above 0 on some row."""


class _Sums:
    """Sums over the rows, in float64."""

    def __init__(self, units: int, width: int, device: torch.device) -> None:
        self.squares = np.zeros((2, width))  # of errors and of rows, by column
        self.fired = torch.zeros(units, dtype=torch.int64, device=device)
        self.x, self.error = np.zeros(width), np.zeros(width)
        self.xx = self.ee = self.bb = self.xb = 0.0
        self.cosine = self.ratio = 0.0
        self.rows = self.with_cosine = self.with_ratio = 0

    def add(self, x: Tensor, z: Tensor, back: Tensor) -> None:
        x, back = x.double(), back.to(x.device).double()
        error = x - back
        self.fired += (z > 0).sum(dim=0)
        self.x += reduce(x, "n width -> width", "sum").cpu().numpy()
        self.error += reduce(error, "n width -> width", "sum").cpu().numpy()
        for into, some in zip(self.squares, (error, x), strict=True):
            into += reduce(some.square(), "n width -> width", "sum").cpu().numpy()
        long, short = x.norm(dim=1), back.norm(dim=1)
        dot = (x * back).sum(dim=1)
        self.xx += float(long.square().sum())
        self.bb += float(short.square().sum())
        self.ee += float(error.square().sum())
        self.xb += float(dot.sum())
        both = (long > 0) & (short > 0)
        self.cosine += float((dot[both] / (long[both] * short[both])).sum())
        self.ratio += float((short[long > 0] / long[long > 0]).sum())
        self.with_cosine += int(both.sum())
        self.with_ratio += int((long > 0).sum())
        self.rows += len(x)


@faster_products()
@torch.inference_mode()
def measure(
    candidates: Sequence[Candidate], store: ActivationStore, *, progress: Progress = silent
) -> list[Measured]:
    """Measure candidates of one site on its held-out rows, all in one reading.

    Transcoders are measured on the rows of their target.

    Raises:
        ConfigError: they are of different sites.
        UnknownName: no such site.
        DataError: fewer than two rows, NaN, rows that do not vary, or a site of another width.
    """
    if not candidates:
        return []
    same_sites(candidates)
    place, written = store.site(candidates[0].reads), store.site(candidates[0].writes)
    start_of_target = place.width - written.width
    check_rows(store, "heldout")
    sums = [_Sums(each.units, written.width, each.device) for each in candidates]
    total, done = len(store.rows_of("heldout")), 0
    for numbers, block in store.blocks(place.name, split="heldout", sinks=False):
        check_finite(store, place, numbers, block)
        for start in range(0, len(block), BATCH):
            x = torch.from_numpy(block[start : start + BATCH]).float()
            for each, into in zip(candidates, sums, strict=True):
                rows = x.to(each.device)
                given = rows[:, :start_of_target] if each.target else rows
                z = each.encode(given)
                into.add(rows[:, start_of_target:], z, each.complete(given, z))
                progress(done, total, each.name)
            done += len(x)
    progress(done, total, "")
    return [_summary(each, into, store) for each, into in zip(candidates, sums, strict=True)]


def _summary(of: Candidate, sums: _Sums, store: ActivationStore) -> Measured:
    n, width = sums.rows, len(sums.x)
    spread = sums.xx - float(np.square(sums.x).sum()) / n
    if spread <= 0:
        raise DataError(
            f"the heldout rows of {of.writes} in store {store.name} are constant, so the fraction "
            "of variance explained has no meaning; capture more documents"
        )
    counts = sums.fired.cpu().numpy()
    alive = counts > 0
    density = counts / n
    histogram, _ = np.histogram(np.clip(np.log10(density[alive]), EDGES[0], EDGES[-1]), EDGES)
    heldout = Reconstruction(
        split="heldout",
        rows=n,
        fve=1 - sums.ee / spread,
        mse=sums.ee / n,
        l0=float(counts.sum()) / n,
        dead=int((~alive).sum()),
        dead_fraction=float((~alive).mean()),
        latents=len(counts),
        density_histogram=tuple(int(count) for count in histogram),
        fve_by_site=_by_site(sums, store.parts(store.site(of.writes))),
    )
    saebench = sums.xx - n * (sums.xx / (n * width)) ** 2
    nearest = redundancy(of, alive)
    fidelity = Fidelity(
        fve_uncentred=1 - sums.ee / sums.xx,
        fve_blind_to_bias=1 - (sums.ee - float(np.square(sums.error).sum()) / n) / spread,
        fve_saebench=1 - sums.ee / saebench if saebench else None,
        cosine=sums.cosine / sums.with_cosine if sums.with_cosine else None,
        length_ratio=sums.ratio / sums.with_ratio if sums.with_ratio else None,
        length_bias=sums.bb / sums.xb if sums.xb else None,
        density_quantiles=_quantiles(density[alive]),
        dense_fraction=float((density > DENSE).mean()),
        redundancy_mean=float(nearest.mean()) if len(nearest) else None,
        redundancy_quantiles=_quantiles(nearest),
        redundant_fraction=float((nearest > CLOSE).mean()) if len(nearest) else None,
    )
    return Measured(heldout, fidelity, alive)


def _by_site(sums: _Sums, parts: Sequence[Site]) -> dict[str, float]:
    """FVE of each of several sites that are written together; a constant one has none."""
    errors, squares = sums.squares
    spread = squares - np.square(sums.x) / sums.rows
    pairs = list(zip(parts, columns(part.width for part in parts), strict=True))
    return {
        part.name: float(1 - errors[some].sum() / spread[some].sum())
        for part, some in pairs
        if len(pairs) > 1 and spread[some].sum() > 0
    }


def _quantiles(values: np.ndarray) -> tuple[float, ...] | None:
    return tuple(np.quantile(values, QUANTILES).tolist()) if len(values) else None


def redundancy(
    of: Candidate, alive: Bool[np.ndarray, " units"], block: int = 2048
) -> Float[np.ndarray, " alive"]:
    """Each live direction's greatest cosine with another live one; empty with fewer than two."""
    directions = of.directions().float()
    used = torch.from_numpy(alive).to(directions.device)
    if of.signed:
        directions, used = directions[::2], rearrange(used, "(m side) -> m side", side=2).any(dim=1)
    unit = normalize(directions[used], dim=1)
    if len(unit) < 2:
        return np.zeros(0)
    parts: list[Tensor] = []
    for start in range(0, len(unit), block):
        cosine = unit[start : start + block] @ unit.T
        if of.signed:
            cosine = cosine.abs()
        itself = torch.arange(len(cosine), device=cosine.device)
        cosine[itself, start + itself] = -2.0
        parts.append(cosine.max(dim=1).values)
    return torch.cat(parts).cpu().numpy()
