"""The inner loops of `interp.lab.drawing`.

Random bits are SplitMix64's (Steele, Lea, Flood 2014): the i-th number after a key is a function of
both, so a loop can compute many at once. Each row has keys of its own.
"""

import math
from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Int32, Int64, UInt64

from interp.compiled import compiled

_BLOCK = 512
_STEP = np.uint64(0x9E3779B97F4A7C15)


@compiled
@no_type_check
def _number(state: np.uint64) -> np.uint64:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@compiled
@no_type_check
def _uniform(state: np.uint64) -> float:
    return np.float64(_number(state) >> np.uint64(11)) * 2.0**-53


@compiled
@no_type_check
def _normal_cdf(a: float) -> float:
    return 0.5 * math.erfc(-a * 0.7071067811865476)


@compiled
@no_type_check
def active_features(
    first_row: int,
    last_row: int,
    start: Float32[np.ndarray, " feature"],
    slope: Float32[np.ndarray, "feature rank"],
    lone_start: Float32[np.ndarray, " lone"],
    lone_slope: Float32[np.ndarray, "rank lone"],
    table: Float32[np.ndarray, " bits"],
    roots: int,
    branching: int,
    parents: int,
    exclusive: bool,
    z: Float32[np.ndarray, "row rank"],
    keys: UInt64[np.ndarray, "row stream"],
    feature: Int32[np.ndarray, " room"],
    parent: Int32[np.ndarray, " room"],
    counts: Int64[np.ndarray, " row"],
) -> None:
    """Draw the rows of a range, one after another.

    Args:
        first_row, last_row: the range.
        start, slope: a = start + slope z.
        lone_start, lone_slope: the same of features without a parent: the roots, then those
            beyond the forest.
        table: as `interp.lab.drawing.thresholds` gives it.
        roots, branching, parents: the children of feature p < ``parents`` are the ``branching``
            features from ``roots + p branching``.
        exclusive: whether at most one of siblings stays.
        z: each row's normal numbers.
        keys: each row's keys: of the 16 bits; of the bits after them, and of children; of the
            choice among siblings.
        feature: written: active features, ascending within a row, from where all features of
            the rows before the range would end.
        parent: written: where the parent stands among a row's entries, or -1.
        counts: written: entries of each row.
    """
    rank, lone = lone_slope.shape
    beyond = parents * branching
    a = np.empty(_BLOCK, np.float32)
    bits = np.empty(_BLOCK // 4, np.uint64)
    u16 = bits.view(np.uint16)
    asked = np.zeros(_BLOCK, np.uint8)
    words = asked.view(np.uint64)
    free = np.empty(lone, np.int32)
    siblings = np.empty(max(branching, 1), np.int32)
    end = first_row * len(start)
    for row in range(first_row, last_row):
        first_bits, more_bits, choice = keys[row, 0], keys[row, 1], keys[row, 2]
        first = end
        frees = 0
        for low in range(0, lone, _BLOCK):
            size = min(_BLOCK, lone - low)
            a[:size] = lone_start[low : low + size]
            for r in range(rank):
                scale, along = z[row, r], lone_slope[r, low : low + size]
                for j in range(size):
                    a[j] += scale * along[j]
            state = first_bits + np.uint64(low // 4) * _STEP
            for j in range(_BLOCK // 4):
                bits[j] = _number(state + np.uint64(j) * _STEP)
            for j in range(size):
                asked[j] = a[j] > table[np.uint32(u16[j]) >> np.uint32(4)]
            for word in range((size + 7) // 8):
                if not words[word]:
                    continue
                for j in range(8 * word, min(8 * word + 8, size)):
                    if not asked[j]:
                        continue
                    at = low + j
                    rest = _uniform(more_bits + np.uint64(at) * _STEP)
                    if (u16[j] + rest) / 65536 >= _normal_cdf(a[j]):
                        continue
                    if at < roots:
                        feature[end], parent[end] = at, -1
                        end += 1
                    else:
                        free[frees] = at + beyond
                        frees += 1
        at = first
        while at < end:
            own = feature[at]
            if own < parents:
                child = roots + own * branching
                drawn = 0
                for c in range(child, child + branching):
                    along = start[c]
                    for r in range(rank):
                        along += z[row, r] * slope[c, r]
                    if _uniform(more_bits - np.uint64(c) * _STEP) < _normal_cdf(along):
                        siblings[drawn] = c
                        drawn += 1
                if exclusive and drawn > 1:
                    chosen = int(drawn * _uniform(choice + np.uint64(own) * _STEP))
                    siblings[0], drawn = siblings[chosen], 1
                for s in range(drawn):
                    feature[end], parent[end] = siblings[s], at - first
                    end += 1
            at += 1
        for f in range(frees):
            feature[end], parent[end] = free[f], -1
            end += 1
        counts[row] = end - first


@compiled
@no_type_check
def scale_children(
    values: Float32[np.ndarray, " entry"],
    feature: Int32[np.ndarray, " entry"],
    parent: Int32[np.ndarray, " entry"],
    starts: Int64[np.ndarray, " row"],
    means: Float32[np.ndarray, " feature"],
    scaled: bool,
) -> None:
    """Multiply children by their parents' values over the parents' means, in place.

    Without scaling, only children of parents whose value is 0 are set to 0.
    """
    for row in range(len(starts) - 1):
        for at in range(starts[row], starts[row + 1]):
            if parent[at] >= 0:
                above = starts[row] + parent[at]
                if scaled:
                    values[at] *= values[above] / means[feature[above]]
                elif values[above] <= 0:
                    values[at] = 0
