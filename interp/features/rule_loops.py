"""The inner loops of `interp.features.rules`: a unit at a time, compiled."""

from typing import Any, no_type_check

import numpy as np
from numpy.typing import NDArray

from interp.compiled import compiled

Array = NDArray[Any]


@compiled
@no_type_check
def best_values(
    first: int,
    last: int,
    codes: Array,
    active: Array,
    silent: Array,
    kinds: Array,
    number: Array,
    price: float,
    values: Array,
    gains: Array,
) -> None:
    """The values of a trait that tell units ``first`` to ``last`` apart best, by falling gain.

    Args:
        first: the first unit.
        last: the unit after the last.
        codes: values at each unit's active rows, [units, kept].
        active: which of them count.
        silent: which rows of the pool count for each unit, [units, pool].
        kinds: the values in the pool, ascending.
        number: which of them each row of the pool has.
        price: what a value must gain.
        values: the best, filled in; what is left stays as it is. On equal gains the lower first.
        gains: share of active rows - share of silent rows, of each of them.
    """
    seen = np.empty(len(kinds), np.int64)
    most = values.shape[1]
    for unit in range(first, last):
        seen[:] = 0
        size = 0
        for row in range(silent.shape[1]):
            if silent[unit, row]:
                seen[number[row]] += 1
                size += 1
        own = np.sort(codes[unit][active[unit]])
        found = begin = 0
        while begin < len(own):
            end = begin + 1
            while end < len(own) and own[end] == own[begin]:
                end += 1
            if end - begin >= 2:
                at = np.searchsorted(kinds, own[begin])
                there = at < len(kinds) and kinds[at] == own[begin]
                gain = (end - begin) / len(own) - (seen[at] if there else 0) / size
                if gain > price and (found < most or gain > gains[unit, most - 1]):
                    place = min(found, most - 1)
                    while place > 0 and gain > gains[unit, place - 1]:
                        gains[unit, place] = gains[unit, place - 1]
                        values[unit, place] = values[unit, place - 1]
                        place -= 1
                    gains[unit, place], values[unit, place] = gain, own[begin]
                    found = min(found + 1, most)
            begin = end


@compiled
@no_type_check
def count_held(
    first: int,
    last: int,
    values: Array,
    codes: Array,
    active: Array,
    pool: Array,
    silent: Array,
    hits: Array,
    false: Array,
) -> None:
    """On how many active and silent rows one of a unit's values stands.

    Args:
        first: the first unit.
        last: the unit after the last.
        values: of each unit's rule, -1 behind the last; no value is below 0.
        codes: values at each unit's active rows, [units, kept].
        active: which of them count.
        pool: values at the rows of the pool.
        silent: which of those count for each unit, [units, pool].
        hits: active rows that the rule holds for, filled in.
        false: silent ones.
    """
    for unit in range(first, last):
        for row in range(codes.shape[1]):
            if active[unit, row]:
                hits[unit] += _among(codes[unit, row], values[unit])
        for row in range(len(pool)):
            if silent[unit, row]:
                false[unit] += _among(pool[row], values[unit])


@compiled
@no_type_check
def _among(code: int, values: Array) -> bool:
    for value in values:
        if value < 0:
            return False
        if value == code:
            return True
    return False
