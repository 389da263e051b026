"""Running statistics of many units, one block of rows after another, in bounded memory.

Per unit: active tokens, sum, sum of squares, maximum, a histogram of active values, activation
mass by label (`LabelMass`) and by token (`TokenMass`), the strongest rows and a uniform sample of
the active rows. The sample is priority sampling: every row of the store has one random rank (a
permutation), and a unit keeps its active rows of highest rank. That is a uniform sample without
replacement, independent of order and of block size. All units share the ranks.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from interp.features.labels import LabelMass, Labels
from interp.features.tokens import TokenMass
from interp.store import ActivationStore

BINS = 128
"""Four bins an octave over 2⁻¹⁶ to 2¹⁶; what lies beyond counts in the first and last bin."""
DENSE = 0.05
"""Share of non-zero activations above which a basis is encoded again rather than kept."""
_SHIFT = 21  # of a float32's bits: exponent and the two leading bits of the mantissa remain
_FIRST = (127 - 16) << 2


def histogram_edges() -> Float32[np.ndarray, " edges"]:
    """Edges of the bins: each power of two times 1, 1.25, 1.5 and 1.75."""
    return ((np.arange(BINS + 1, dtype=np.int32) + _FIRST) << _SHIFT).view(np.float32)


class Best:
    """Per unit, the entries with the largest keys; on equal keys the row seen first."""

    def __init__(self, units: int, keep: int) -> None:
        """Keep up to ``keep`` entries for each unit."""
        self.units, self.keep = units, keep
        self._least = torch.full((units,), -1, dtype=torch.int64)
        self._parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self._waiting, self._limit = 0, max(units * keep // 2, 1 << 18)

    def offer(self, unit: Tensor, row: Tensor, key: Tensor, value: Tensor) -> None:
        """Offer entries in order of rows; ``key`` is int64 within [0, 2³²)."""
        chosen = (key > self._least[unit]).nonzero().squeeze(1)
        if not len(chosen):
            return
        self._parts.append((unit[chosen], row[chosen], key[chosen], value[chosen]))
        self._waiting += len(chosen)
        if self._waiting > self._limit:
            self._compact()

    def result(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows (-1 = none), keys and values ``[units, keep]``, largest key first."""
        self._compact()
        shape = (self.units, self.keep)
        rows = np.full(shape, -1, np.int64)
        keys, values = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
        for unit, row, key, value in self._parts:
            place = (unit.numpy(), _rank_in_group(unit).numpy())
            rows[place], keys[place], values[place] = row.numpy(), key.numpy(), value.numpy()
        return rows, keys, values

    def _compact(self) -> None:
        if not self._parts:
            return
        unit, row, key, value = (torch.cat(part) for part in zip(*self._parts, strict=True))
        order = ((unit << 32) + ((1 << 32) - 1 - key)).argsort(stable=True)
        order = order[_rank_in_group(unit[order]) < self.keep]
        unit, row, key, value = unit[order], row[order], key[order], value[order]
        last = _rank_in_group(unit) == self.keep - 1
        self._least[unit[last]] = key[last]
        self._parts, self._waiting = [(unit, row, key, value)], 0


def _rank_in_group(sorted_groups: Tensor) -> Tensor:
    """0, 1, 2, ... within each run of equal values."""
    place = torch.arange(len(sorted_groups))
    starts = torch.ones(len(sorted_groups), dtype=torch.bool)
    starts[1:] = sorted_groups[1:] != sorted_groups[:-1]
    return place - torch.where(starts, place, 0).cummax(0).values if len(place) else place


class Rows:
    """What belongs to each row of a store, the same for every basis."""

    def __init__(self, store: ActivationStore, seed: int) -> None:
        """Rank the rows at random and number labels and tokens."""
        self.ranks: Int64[np.ndarray, " rows"] = np.random.default_rng([seed, 0xA1]).permutation(
            store.rows
        )
        self.labels = Labels(store, seed)
        self.documents, self.tokens = store.document_index, store.tokens
        self.kinds: Int64[np.ndarray, " kinds"] = np.unique(store.tokens).astype(np.int64)


class Accumulator:
    """Everything about one basis that one pass over the rows gives."""

    def __init__(
        self,
        units: int,
        rows: Rows,
        *,
        top: int,
        sample: int,
        pool: "Pool",
    ) -> None:
        """Start empty.

        Args:
            units: of the basis.
            rows: what belongs to the store's rows.
            top: strongest rows to keep per unit.
            sample: random active rows to keep per unit.
            pool: how many non-zero activations may be kept in `Codes`, over all bases.
        """
        self.units, self.rows = units, 0
        self._sum = torch.zeros(units, dtype=torch.float64)
        self._squares = torch.zeros(units, dtype=torch.float64)
        self.max = torch.zeros(units)
        self._counts = torch.zeros(units * BINS, dtype=torch.int64)
        self._rows = rows
        self._ranks = torch.from_numpy(rows.ranks)
        self.labels = LabelMass(units, rows.labels)
        self.tokens = TokenMass(units, rows.kinds)
        self.strongest, self.sample = Best(units, top), Best(units, sample)
        self.codes: Codes | None = Codes(units, pool)

    def add(self, rows: Int64[np.ndarray, " n"], z: Float[Tensor, "n units"]) -> None:
        """Take a block of rows: their numbers and activations."""
        self.rows += len(rows)
        self._sum += z.sum(dim=0)
        self.max = torch.maximum(self.max, z.amax(dim=0))
        self.labels.add(self._rows.documents[rows].astype(np.int64), z)
        self.tokens.add(self._rows.tokens[rows].astype(np.int64), z)
        flat = z.flatten()
        active = flat.nonzero().squeeze(1)
        value = flat[active]
        unit = active % self.units
        squares = value.double().square()
        self._squares += torch.bincount(unit, weights=squares, minlength=self.units)
        index = torch.from_numpy(rows)[active // self.units]
        bits = value.view(torch.int32).long()
        bins = ((bits >> _SHIFT) - _FIRST).clamp_(0, BINS - 1)
        self._counts += torch.bincount(unit * BINS + bins, minlength=len(self._counts))
        self.strongest.offer(unit, index, bits, value)
        self.sample.offer(unit, index, self._ranks[index], value)
        if self.codes is not None and not self.codes.add(index, unit, value, len(rows)):
            self.codes = None

    @property
    def counts(self) -> Int64[np.ndarray, "units bins"]:
        """Active tokens of each unit by bin of `histogram_edges`."""
        return self._counts.reshape(self.units, BINS).numpy()

    @property
    def active(self) -> Int64[np.ndarray, " units"]:
        """Tokens on which each unit is active."""
        return self.counts.sum(axis=1)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over all tokens, zeros included."""
        mean = self._sum / max(self.rows, 1)
        variance = self._squares / max(self.rows, 1) - mean.square()
        return mean.numpy(), variance.clamp_min(0).sqrt().numpy()


@dataclass
class Pool:
    """Room for non-zero activations, shared by the bases of one pass."""

    left: int


class Codes:
    """The non-zero activations of a sparse basis, kept so that windows need no second encoding.

    A basis denser than ``DENSE`` is not kept: the product that encodes it again is small for its
    number of entries.
    """

    def __init__(self, units: int, pool: Pool) -> None:
        """Start empty."""
        self._units, self._pool = units, pool
        self._entries = self._cells = 0
        self._keys: list[np.ndarray] = []
        self._values: list[np.ndarray] = []

    def add(self, rows: Tensor, units: Tensor, values: Tensor, block: int) -> bool:
        """Keep the entries of ``block`` rows, ordered by (row, unit); False if too many."""
        self._pool.left -= len(rows)
        self._entries += len(rows)
        self._cells += block * self._units
        if self._pool.left < 0 or self._entries > DENSE * self._cells:
            self._pool.left += self._entries
            return False
        self._keys.append((rows * self._units + units).numpy())
        self._values.append(values.clamp_max(65504).half().numpy())
        return True

    def at(
        self, rows: Int64[np.ndarray, " n"], units: Int64[np.ndarray, " n"]
    ) -> Float32[np.ndarray, " n"]:
        """Activations of (row, unit) pairs."""
        if len(self._keys) > 1:
            self._keys, self._values = [np.concatenate(self._keys)], [np.concatenate(self._values)]
        if not self._keys or not len(self._keys[0]):
            return np.zeros(len(rows), np.float32)
        keys, wanted = self._keys[0], rows * self._units + units
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[place] == wanted, self._values[0][place], 0).astype(np.float32)
