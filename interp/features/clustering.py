"""Average linkage up to a threshold, for many small sets of contexts.

The nearest-neighbour chain (Murtagh 1983, "A survey of recent advances in hierarchical clustering
algorithms"; Müllner 2011, 1109.2378) finds the same clusters as merging the nearest pair again and
again, since an average lies between what it is the average of:

1. From any cluster go to its nearest, from there to its nearest, and so on: distances fall, so two
   clusters are soon each other's nearest. Merge them.
2. The new cluster's distance to each other one is the mean over its members.
3. A cluster farther than the threshold from all others is finished: no average of those distances
   is smaller.
"""

from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import NDArray

from interp.compiled import compiled

Array = NDArray[Any]


def average_linkage(
    distance: Float[np.ndarray, "n n"], threshold: float
) -> Int64[np.ndarray, " n"]:
    """Each one's cluster, numbered in order of their first members."""
    return linked(np.array(distance, np.float64), threshold)


def adjusted_rand(one: Int64[np.ndarray, " n"], other: Int64[np.ndarray, " n"]) -> float:
    """Agreement of two clusterings, 1 if equal, 0 on average by chance (Hubert & Arabie 1985).

    The same number as scikit-learn's ``adjusted_rand_score``, without its checks.
    """
    return agreement(one.astype(np.int64), other.astype(np.int64))


@compiled
@no_type_check
def linked(distance: Array, threshold: float) -> Array:
    """Clusters of a matrix of distances, which is overwritten."""
    n = len(distance)
    size, alive = np.ones(n, np.int64), np.ones(n, np.bool_)
    owner, chain = np.arange(n), np.empty(n + 1, np.int64)
    length, start = 0, 0
    while True:
        if length == 0:
            while start < n and not alive[start]:
                start += 1
            if start == n:
                break
            chain[0], length = start, 1
        here = chain[length - 1]
        last = chain[length - 2] if length > 1 else -1
        near = last
        least = distance[here, last] if length > 1 else np.inf
        for i in range(n):
            if alive[i] and i != here and distance[here, i] < least:
                near, least = i, distance[here, i]
        if near < 0 or least > threshold:
            alive[here] = False
            length -= 1
        elif near != last:
            chain[length] = near
            length += 1
        else:
            a, b = size[here], size[near]
            for i in range(n):
                if alive[i]:
                    mean = (a * distance[here, i] + b * distance[near, i]) / (a + b)
                    distance[near, i], distance[i, near] = mean, mean
            alive[here] = False
            size[near], owner[here] = a + b, near
            length -= 2
    number, label, found = np.full(n, -1, np.int64), np.empty(n, np.int64), 0
    for i in range(n):
        root = i
        while owner[root] != root:
            root = owner[root]
        if number[root] < 0:
            number[root] = found
            found += 1
        label[i] = number[root]
    return label


@compiled
@no_type_check
def agreement(one: Array, other: Array) -> float:
    """The adjusted Rand index."""
    width = other.max() + 1
    table = np.zeros((one.max() + 1, width), np.int64)
    for i in range(len(one)):
        table[one[i], other[i]] += 1
    together, first, second = 0.0, 0.0, 0.0
    for i in range(len(table)):
        for j in range(width):
            together += table[i, j] * (table[i, j] - 1) / 2
        own = table[i].sum()
        first += own * (own - 1) / 2
    for j in range(width):
        own = table[:, j].sum()
        second += own * (own - 1) / 2
    expected = first * second / max(len(one) * (len(one) - 1) / 2, 1.0)
    most = (first + second) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


@compiled
@no_type_check
def cluster_sets(
    first: int,
    last: int,
    token: Array,
    around: Array,
    sizes: Array,
    halves: Array,
    threshold: float,
    labels: Array,
    within: Array,
    stability: Array,
) -> None:
    """Cluster sets ``first`` to ``last`` and random halves of each.

    A pair's distance is (1 - token likeness)(1 - context likeness). ``halves[s, h]`` are members of
    set s; ``within`` becomes each member's sum of distances to its cluster.
    """
    for s in range(first, last):
        n = sizes[s]
        distance = np.empty((n, n), np.float64)
        for i in range(n):
            distance[i, i] = 0
            for j in range(i):
                one, two = np.float32(1) - token[s, i, j], np.float32(1) - around[s, i, j]
                apart = max(one, np.float32(0)) * max(two, np.float32(0))
                distance[i, j], distance[j, i] = apart, apart
        label = linked(distance.copy(), threshold)
        labels[s, :n] = label
        for i in range(n):
            for j in range(n):
                if label[i] == label[j]:
                    within[s, i] += distance[i, j]
        half = n // 2
        for h in range(halves.shape[1]):
            chosen = halves[s, h, :half]
            part = np.empty((half, half), np.float64)
            for i in range(half):
                for j in range(half):
                    part[i, j] = distance[chosen[i], chosen[j]]
            if half:
                stability[s] += agreement(label[chosen], linked(part, threshold))
        stability[s] /= halves.shape[1]
