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
3. Agglomerative clustering with average linkage up to the threshold; scipy's, which scikit-learn's
   calls too, with checks that take longer than the clustering of so few rows.
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
from scipy.cluster.hierarchy import linkage

from interp.features.embeddings import ContextVectors
from interp.features.labels import effective_number
from interp.features.sample import Sample

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
    "senses_share": "share of activation mass in the largest sense",
    "senses_scattered": "share of activation mass in no sense",
    "senses_stability": "adjusted Rand index between the clusters and those found on random halves",
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
) -> Senses:
    """Find the senses of every unit that is active often enough.

    Args:
        sample: active rows of every unit.
        contexts: rows of the shown contexts, -1 where there is none.
        vectors: of the store's rows.
        threshold: of `alike_below`.
        seed: of the halves.
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
        token, around = vectors.at(np.concatenate(rows))
        edges = np.cumsum([0, *(len(each) for each in rows)])
        for unit, own, low, high in zip(part, rows, edges[:-1], edges[1:], strict=True):
            distance = _distances(token[low:high], around[low:high])
            draw = np.random.default_rng([seed, 0x5E25, unit])
            _one(out, unit, own, distance, sample, contexts, threshold, draw)
    return out


def _one(
    out: Senses,
    unit: int,
    rows: np.ndarray,
    distance: np.ndarray,
    sample: Sample,
    contexts: np.ndarray,
    threshold: float,
    draw: np.random.Generator,
) -> None:
    cluster = _clusters(distance, threshold)
    active, values = sample.of(unit)
    # The sample stands first, in its own order; shown contexts only join clusters.
    counts = np.bincount(cluster[: len(active)], minlength=int(cluster.max()) + 1)
    mass = np.bincount(cluster[: len(active)], weights=values, minlength=len(counts))
    mass = mass / mass.sum()
    least = max(LEAST_ROWS, LEAST_SHARE * len(active))
    found = np.flatnonzero(counts >= least)
    found = found[np.argsort(-mass[found], kind="stable")]
    columns = out.columns
    columns["senses"][unit] = len(found)
    columns["senses_effective"][unit] = effective_number(mass[:, None])[0]
    columns["senses_share"][unit] = mass[found[0]] if len(found) else 0
    columns["senses_scattered"][unit] = max(1 - mass[found].sum(), 0)
    columns["senses_stability"][unit] = _stability(distance, cluster, threshold, draw)
    order = np.argsort(rows)
    place = order[np.minimum(np.searchsorted(rows[order], contexts[unit]), len(rows) - 1)]
    for number, each in enumerate(found[:MOST]):
        inside = np.flatnonzero(cluster == each)
        out.share[unit, number] = mass[each]
        out.exemplar[unit, number] = rows[
            inside[distance[np.ix_(inside, inside)].sum(axis=1).argmin()]
        ]
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


def _clusters(distance: np.ndarray, threshold: float) -> Int64[np.ndarray, " n"]:
    n = len(distance)
    if n < 2:
        return np.zeros(n, np.int64)
    tree = linkage(distance[~np.tri(n, dtype=bool)], "average")
    merges = int(np.searchsorted(tree[:, 2], threshold, side="right"))  # they are in this order
    # The n rows are nodes 0 to n - 1; merge i makes node n + i of two earlier ones.
    root = list(range(n + merges))
    for node, pair in reversed(list(enumerate(tree[:merges, :2].astype(int).tolist(), n))):
        for part in pair:
            root[part] = root[node]
    return np.unique(root[:n], return_inverse=True)[1].astype(np.int64)


def _stability(
    distance: np.ndarray, cluster: np.ndarray, threshold: float, draw: np.random.Generator
) -> float:
    scores: list[float] = []
    for _ in range(HALVES):
        half = np.sort(draw.choice(len(cluster), len(cluster) // 2, replace=False))
        again = _clusters(distance[np.ix_(half, half)], threshold)
        scores.append(adjusted_rand(cluster[half], again))
    return float(np.mean(scores))


def adjusted_rand(one: Int64[np.ndarray, " n"], other: Int64[np.ndarray, " n"]) -> float:
    """Agreement of two clusterings, 1 if equal, 0 on average by chance (Hubert & Arabie 1985).

    The same number as scikit-learn's ``adjusted_rand_score``, without its checks.
    """

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1)).sum()) / 2

    table = np.bincount(one * (int(other.max()) + 1) + other)
    together, first, second = pairs(table), pairs(np.bincount(one)), pairs(np.bincount(other))
    expected = first * second / max(pairs(np.array([len(one)])), 1)
    most = (first + second) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)
