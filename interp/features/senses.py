"""Senses: the different things a unit fires on, found by clustering its contexts. One is allowed.

Two contexts are as far apart as

    d = (1 - cos of the tokens' vectors) · (1 - cos of the context embeddings)

so they are alike if the token is alike *or* what stands around it is: a unit that follows one word
whatever the topic has one sense, and so has one that follows a topic whatever the word. A word
with two meanings counts as one sense of its unit. Vectors are those of
`interp.features.embeddings`.

1. Rows: the random sample of active rows, which reaches into every stratum, and the shown
   contexts.
2. Scale: two contexts count as alike if they are nearer than all but ``ALIKE`` of pairs of random
   rows of the store. That distance is the threshold; no number of senses is given.
3. Agglomerative clustering with average linkage up to the threshold
   (`interp.features.clustering`), the same as scikit-learn's.
4. A sense is a cluster with at least ``LEAST_SHARE`` of the sampled active rows and ``LEAST_ROWS``
   rows. What lies in smaller clusters is *scattered*. No sense at all is a finding too.
5. Share of a sense = its share of activation mass among the sampled active rows. Effective number
   of senses = exp of the entropy of mass over clusters, small ones included: 1 for one sense,
   large where nothing recurs.
6. Stability: adjusted Rand index between the clustering and that of a random half of the rows,
   mean of ``HALVES`` halves.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int8, Int64

from interp.features.clustering import cluster_sets
from interp.features.embeddings import ContextVectors
from interp.features.jackknife import GROUPS, jackknife_error
from interp.features.labels import effective_number
from interp.features.sample import Sample
from interp.sae.kernels.compiled import even, share

ALIKE = 0.05
LEAST_SHARE, LEAST_ROWS = 0.05, 4
MOST = 8
"""Senses stored per unit, those with the largest share of mass."""
HALVES = 2
CHUNK = 256
"""Units embedded at a time; bounds memory."""

SCORES = {
    "senses": "experimental; number of clusters of like contexts that hold at least 5 % of active "
    "rows; 0 if nothing recurs",
    "senses_effective": "exp of the entropy of activation mass over all clusters of contexts, "
    "small ones included; 1 is one sense, large is scattered",
    "senses_effective_se": "its standard error, by a jackknife over eight groups of documents, the "
    "clusters taken as they are",
    "senses_share": "share of activation mass in the largest sense",
    "senses_scattered": "share of activation mass in no sense",
    "senses_stability": "experimental; adjusted Rand index between the clusters and those found on "
    "random halves",
}


@dataclass(frozen=True)
class Senses:
    """Senses of every unit, largest first."""

    share: Float32[np.ndarray, "units most"]
    """Share of activation mass; 0 where there is no further sense."""
    exemplar: Int64[np.ndarray, "units most"]
    """The row nearest to all others of its sense; -1 where there is none."""
    of_context: Int8[np.ndarray, "units strata keep"]
    """Sense of each shown context; -1 where it is scattered or there is none."""
    columns: dict[str, np.ndarray]
    """The columns of `SCORES`."""


def alike_below(vectors: ContextVectors, pool: Int64[np.ndarray, " rows"]) -> float:
    """The distance below which ``ALIKE`` of pairs of random rows lie."""
    distance = _distances(*vectors.at(pool))
    return float(np.quantile(distance[np.triu_indices(len(pool), 1)], ALIKE))


def senses(
    sample: Sample,
    contexts: Int64[np.ndarray, "units strata keep"],
    vectors: ContextVectors,
    threshold: float,
    seed: int,
    groups: Int64[np.ndarray, " rows"],
    first: int = 0,
) -> Senses:
    """Find the senses of every unit that is active often enough.

    Args:
        sample: active rows of every unit.
        contexts: rows of the shown contexts, -1 where there is none.
        vectors: of the store's rows.
        threshold: of `alike_below`.
        seed: of the halves.
        groups: group of the document of each row of the store, see `interp.features.jackknife`.
        first: number of the first of these units within its basis.
    """
    units = len(sample.rows)
    out = Senses(
        np.zeros((units, MOST), np.float32),
        np.full((units, MOST), -1, np.int64),
        np.full(contexts.shape, -1, np.int8),
        {name: np.full(units, np.nan) for name in SCORES},
    )
    scored = sample.scored()
    for start in range(0, len(scored), CHUNK):
        part = scored[start : start + CHUNK]
        rows = [_rows(sample, contexts, unit) for unit in part]
        draws = [np.random.default_rng([seed, 0x5E25, first + unit]) for unit in part]
        found = _clustered(rows, vectors, threshold, draws)
        for number, (unit, own) in enumerate(zip(part, rows, strict=True)):
            label, within = (each[number, : len(own)] for each in found[:2])
            out.columns["senses_stability"][unit] = found[2][number]
            _one(out, unit, own, label, within, sample, contexts, groups)
    return out


def _clustered(
    rows: list[np.ndarray],
    vectors: ContextVectors,
    threshold: float,
    draws: list[np.random.Generator],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Clusters of several units' rows, each one's sum of distances within, and stabilities."""
    sizes = np.array([len(each) for each in rows])
    shape = (len(rows), int(sizes.max()))
    halves = np.zeros((len(rows), HALVES, shape[1] // 2), np.int64)
    for number, (own, draw) in enumerate(zip(rows, draws, strict=True)):
        for half in halves[number]:
            chosen = draw.choice(len(own), len(own) // 2, replace=False)
            half[: len(chosen)] = np.sort(chosen)
    inside = torch.from_numpy(np.arange(shape[1]) < sizes[:, None])
    token, around = (torch.from_numpy(each) for each in vectors.at(np.concatenate(rows)))
    token, around = (
        torch.zeros(*shape, each.shape[1]).masked_scatter_(inside[:, :, None], each)
        for each in (token, around)
    )
    token, around = (torch.bmm(each, each.mT).numpy() for each in (token, around))
    labels, within = np.zeros(shape, np.int64), np.zeros(shape)
    stability = np.zeros(len(rows))
    share(
        cluster_sets, even(len(rows)), token, around, sizes, halves, threshold,
        labels, within, stability,
    )  # fmt: skip
    return labels, within, stability


def _one(
    out: Senses,
    unit: int,
    rows: np.ndarray,
    cluster: np.ndarray,
    within: np.ndarray,
    sample: Sample,
    contexts: np.ndarray,
    groups: np.ndarray,
) -> None:
    active, values = sample.of(unit)
    # The sample stands first, in its own order; shown contexts only join clusters.
    counts = np.bincount(cluster[: len(active)], minlength=int(cluster.max()) + 1)
    mass = np.bincount(cluster[: len(active)], weights=values, minlength=len(counts))
    cells = cluster[: len(active)] * GROUPS + groups[active]
    by_group = np.bincount(cells, weights=values, minlength=len(counts) * GROUPS)
    by_group = by_group.reshape(-1, GROUPS)[:, np.unique(groups[active])]
    rest = effective_number(mass[:, None] - by_group * (1 - 1e-12))  # rounding: not below 0
    mass = mass / mass.sum()
    least = max(LEAST_ROWS, LEAST_SHARE * len(active))
    found = np.flatnonzero(counts >= least)
    found = found[np.argsort(-mass[found], kind="stable")]
    columns = out.columns
    columns["senses"][unit] = len(found)
    columns["senses_effective"][unit] = effective_number(mass[:, None])[0]
    columns["senses_effective_se"][unit] = jackknife_error(rest[:, None])[0]
    columns["senses_share"][unit] = mass[found[0]] if len(found) else 0
    columns["senses_scattered"][unit] = max(1 - mass[found].sum(), 0)
    order = np.argsort(rows)
    place = order[np.minimum(np.searchsorted(rows[order], contexts[unit]), len(rows) - 1)]
    for number, each in enumerate(found[:MOST]):
        inside = np.flatnonzero(cluster == each)
        out.share[unit, number] = mass[each]
        out.exemplar[unit, number] = rows[inside[within[inside].argmin()]]
        out.of_context[unit][(cluster[place] == each) & (contexts[unit] >= 0)] = number


def _rows(sample: Sample, contexts: np.ndarray, unit: int) -> Int64[np.ndarray, " n"]:
    """The sampled active rows, then the shown contexts that are not among them."""
    rows = sample.of(unit)[0]
    shown = contexts[unit][contexts[unit] >= 0]
    return np.concatenate([rows, np.setdiff1d(shown, rows)])


def _distances(
    token: Float[np.ndarray, "n d"], around: Float[np.ndarray, "n e"]
) -> Float[np.ndarray, "n n"]:
    # torch: numpy's matrix library wakes all its threads for products as small as these.
    parts = (torch.from_numpy(np.ascontiguousarray(each)) for each in (token, around))
    likeness = [(part @ part.T).numpy() for part in parts]
    distance = np.maximum(1 - likeness[0], 0) * np.maximum(1 - likeness[1], 0)
    np.fill_diagonal(distance, 0)
    return (distance + distance.T) / 2
