"""Where the units of a basis fire in a block of rows: the non-zero activations, unit by unit.

A unit is silent on most rows, so whatever is added up over rows is added up over this list. It is
ordered by unit, then by row: each thread owns a range of units and everything that belongs to
them, so the number of threads changes the time and never a byte.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64
from numpy.typing import NDArray
from torch import Tensor

from interp.compiled import compiled
from interp.features.bases import Basis, DictionaryBasis
from interp.sae import Dictionary
from interp.sae.base import ThresholdDictionary
from interp.sae.kernels.compiled import even, share
from interp.sae.kernels.selecting import select
from interp.sae.kinds.topk import TopKDictionary

Array = NDArray[Any]


@dataclass(frozen=True)
class Firing:
    """The activations of some units in a block of rows; all others are 0."""

    rows: int
    """How many rows the block has."""
    offsets: Int64[np.ndarray, " units_and_one"]
    """Unit u owns the entries from ``offsets[u]`` up to ``offsets[u + 1]``."""
    places: Int32[np.ndarray, " n"]
    """Of each entry, its row's place in the block; ascending within a unit."""
    values: Float32[np.ndarray, " n"]
    """Activations, all above 0 (or NaN, which nobody has refused yet)."""

    @property
    def units(self) -> int:
        """How many units there are."""
        return len(self.offsets) - 1

    @property
    def density(self) -> float:
        """Share of activations above 0."""
        return len(self.values) / max(self.rows * self.units, 1)

    def dense(self) -> Float32[np.ndarray, "rows units"]:
        """All activations."""
        out = np.zeros((self.rows, self.units), np.float32)
        out[self.places, np.repeat(np.arange(self.units), np.diff(self.offsets))] = self.values
        return out

    def of_rows(self, places: Int64[np.ndarray, " n"]) -> "Firing":
        """The same for some rows of the block, by ascending place."""
        if len(places) == self.rows:
            return self
        number = np.full(self.rows, -1, np.int32)
        number[places] = np.arange(len(places), dtype=np.int32)
        new = number[self.places]
        kept = new >= 0
        offsets = np.concatenate([[0], np.cumsum(kept)])[self.offsets].astype(np.int64)
        return Firing(len(places), offsets, new[kept], self.values[kept])

    @classmethod
    def of(
        cls, z: Float[Tensor, "rows units"], first: int = 0, last: int | None = None
    ) -> "Firing":
        """From all activations of a block, or those of some neighbouring units."""
        last = z.shape[1] if last is None else last
        none = np.zeros(last - first, np.float32)
        return _above(z[:, first:last].numpy(force=True).astype(np.float32, copy=False), none)


class Firer:
    """Encodes blocks of rows into the firing of ranges of a basis' units."""

    def __init__(self, basis: Basis, ranges: Sequence[tuple[int, int]]) -> None:
        """Take a basis and ranges of its units, as (first, last + 1)."""
        self._basis, self._ranges = basis, list(ranges)

    def __call__(self, x: Float[Tensor, "n width"]) -> list[Firing]:
        """The firing of each range; as `Basis.encode` has it, but for rounding.

        Raises:
            DataError: the rows are not as wide as the site.
        """
        with torch.inference_mode():
            if isinstance(self._basis, DictionaryBasis):
                dictionary = self._basis.dictionary
                x = x.to(dictionary.W_enc.device)
                if isinstance(dictionary, ThresholdDictionary):
                    return self._thresholds(dictionary, x)
                if isinstance(dictionary, TopKDictionary):
                    return self._largest(dictionary, x)
            z = self._basis.encode(x).float().cpu()
            return [Firing.of(z, first, last) for first, last in self._ranges]

    def _thresholds(self, dictionary: ThresholdDictionary, x: Tensor) -> list[Firing]:
        threshold = dictionary.threshold.float().numpy(force=True)
        plain = type(dictionary).pre_activations is Dictionary.pre_activations
        if plain and self._ranges != [(0, self._basis.n_units)]:
            dictionary.pre_activations(x[:0])  # checks the width
            x = x.to(dictionary.W_enc.dtype)
            centred = x - dictionary.b_dec if dictionary.origin.target is None else x
            return [
                _above(
                    torch.addmm(dictionary.b_enc[a:b], centred, dictionary.W_enc[:, a:b])
                    .float()
                    .numpy(force=True),
                    threshold[a:b],
                )
                for a, b in self._ranges
            ]
        pre = dictionary.pre_activations(x).float().numpy(force=True)
        return [_above(pre[:, a:b], threshold[a:b]) for a, b in self._ranges]

    def _largest(self, dictionary: TopKDictionary, x: Tensor) -> list[Firing]:
        pre = dictionary.pre_activations(x).float()
        if not bool(torch.isfinite(pre.sum())):  # selection would pass over NaN in silence
            return [Firing.of(dictionary.activate(pre), a, b) for a, b in self._ranges]
        pre = pre.numpy(force=True)
        rows, width = pre.shape
        k = min(dictionary.config.k, width)
        ends = np.zeros(rows, np.int64)
        values, units = np.empty(rows * k, np.float32), np.empty(rows * k, np.int32)
        nothing, none = np.zeros(width, np.float32), np.empty(0, np.int32)
        share(select, even(rows), 0, pre, nothing, none, k, ends, values, units)
        begins = np.arange(rows, dtype=np.int64) * k
        return [_turned(begins, ends, units, values, a, b) for a, b in self._ranges]


def _above(pre: Array, threshold: Array) -> Firing:
    """What lies above its unit's threshold."""
    rows, width = pre.shape
    values, units = np.empty(rows * width, np.float32), np.empty(rows * width, np.int32)
    ends = np.zeros(rows, np.int64)
    share(_find, even(rows), pre, threshold, ends, values, units)
    begins = np.arange(rows, dtype=np.int64) * width
    return _turned(begins, ends, units, values, 0, width)


def _turned(
    begins: Array, ends: Array, units: Array, values: Array, first: int, last: int
) -> Firing:
    """From lists by row to lists by unit, of the units ``first`` to ``last``."""
    offsets = np.zeros(last - first + 1, np.int64)
    _count(begins, ends, units, first, last, offsets)
    places = np.empty(int(offsets[-1]), np.int32)
    turned = np.empty(len(places), np.float32)
    _turn(begins, ends, units, values, first, last, offsets.copy(), places, turned)
    return Firing(len(begins), offsets, places, turned)


STRIDE = 32


@compiled
@no_type_check
def _find(
    first: int, last: int, pre: Array, threshold: Array, ends: Array, values: Array, units: Array
) -> None:
    """Entries of rows ``first`` to ``last`` above the thresholds; NaN counts as above."""
    width = pre.shape[1]
    for i in range(first, last):
        row, at = pre[i], i * width
        for start in range(0, width, STRIDE):
            stop = min(start + STRIDE, width)
            part, cut = row[start:stop], threshold[start:stop]
            found = 0
            for j in range(len(part)):
                found += not part[j] <= cut[j]
            if found == 0:  # as most are: this loop is made of vector instructions
                continue
            for j in range(len(part)):
                if not part[j] <= cut[j]:
                    values[at], units[at] = part[j], start + j
                    at += 1
        ends[i] = at


@compiled
@no_type_check
def _count(begins: Array, ends: Array, units: Array, first: int, last: int, offsets: Array) -> None:
    """Where each unit's list begins."""
    for i in range(len(begins)):
        for e in range(begins[i], ends[i]):
            if first <= units[e] < last:
                offsets[units[e] - first + 1] += 1
    for u in range(last - first):
        offsets[u + 1] += offsets[u]


@compiled
@no_type_check
def _turn(
    begins: Array,
    ends: Array,
    units: Array,
    values: Array,
    first: int,
    last: int,
    at: Array,
    places: Array,
    turned: Array,
) -> None:
    """Deal the entries out to the units; ``at`` is where each one's next goes."""
    for i in range(len(begins)):
        for e in range(begins[i], ends[i]):
            if first <= units[e] < last:
                to = at[units[e] - first]
                places[to], turned[to] = i, values[e]
                at[units[e] - first] = to + 1
