"""Which tokens a unit's activation lies on: activation mass by token, in bounded memory.

Activations are added up per (token, unit). As long as units × tokens that occur stays below
``CELLS`` that is a matrix and exact. Beyond it, the pairs are kept as a list, and whenever the
list is too long only the ``KEPT`` heaviest tokens of each unit survive; what is cut off still
counts in the unit's total. Sparse units lose nothing that way. The share of mass kept is reported.

Token entropy -Σ p log₂ p over that mass measures **abstractness** (Heap et al. 2025, 2501.17727),
not monosemanticity: a unit for one word has none, one for a topic has much. It is a second axis.
"""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

CELLS = 1 << 26
"""Cells of the exact matrix at most (float32: 256 MiB a basis)."""
KEPT = 128
"""Tokens a unit keeps when the list is cut."""
TOP = 10
"""Tokens stored per unit."""

SCORES = {
    "abstractness": "entropy in bits of activation mass over tokens; 0 is one token only; a second "
    "axis, not monosemanticity",
    "token_share": "share of activation mass on the heaviest token",
    "token_kept": "share of activation mass whose token is known; below 1, abstractness is a lower "
    "bound",
}


class TokenMass:
    """Activation of every unit by token."""

    def __init__(self, units: int, tokens: Int64[np.ndarray, " kinds"]) -> None:
        """Start at zero; ``tokens`` are the ids that occur, ascending."""
        self._units, self._tokens = units, tokens
        self._total = torch.zeros(units, dtype=torch.float64)
        exact = units * len(tokens) <= CELLS
        self._matrix = torch.zeros(len(tokens), units) if exact else None
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._waiting = 0

    def add(self, tokens: Int64[np.ndarray, " n"], z: Float[Tensor, "n units"]) -> None:
        """Take a block of rows: each one's token id and activations."""
        self._total += z.sum(dim=0)
        kind = np.searchsorted(self._tokens, tokens)
        if self._matrix is not None:
            self._matrix.index_add_(0, torch.from_numpy(kind), z)
            return
        row, unit = z.nonzero(as_tuple=True)
        self._keys.append(unit * len(self._tokens) + torch.from_numpy(kind)[row])
        self._values.append(z[row, unit].double())
        self._waiting += len(row)
        if self._waiting > max(4 * self._units * KEPT, 1 << 22):
            self._cut()

    def result(
        self,
    ) -> tuple[
        Int64[np.ndarray, "units top"], Float32[np.ndarray, "units top"], dict[str, np.ndarray]
    ]:
        """Heaviest tokens (-1 = none), their shares of the mass, and the columns of `SCORES`."""
        total = self._total.numpy()
        ids = np.full((self._units, TOP), -1, np.int64)
        mass = np.zeros((self._units, TOP))
        entropy, kept = np.zeros(self._units), np.zeros(self._units)
        for unit, kinds, masses in self._by_unit():
            order = np.argsort(-masses, kind="stable")[:TOP]
            ids[unit, : len(order)] = self._tokens[kinds[order]]
            mass[unit, : len(order)] = masses[order]
            kept[unit] = masses.sum()
            entropy[unit] = _bits(np.append(masses, max(total[unit] - kept[unit], 0.0)))
        safe = np.maximum(total, 1e-300)
        alive = total > 0
        columns = {
            "abstractness": np.where(alive, entropy, np.nan),
            "token_share": np.where(alive, mass[:, 0] / safe, np.nan),
            "token_kept": np.where(alive, np.minimum(kept / safe, 1), np.nan),
        }
        return ids, (mass / safe[:, None]).astype(np.float32), columns

    def _by_unit(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Each unit, its tokens (as places among those that occur) and their masses."""
        if self._matrix is not None:
            for unit, column in enumerate(self._matrix.T.numpy()):
                kinds = np.flatnonzero(column)
                yield unit, kinds, column[kinds].astype(np.float64)
            return
        self._cut()
        keys, values = self._keys[0].numpy(), self._values[0].numpy()
        edges = np.searchsorted(keys, np.arange(self._units + 1) * len(self._tokens))
        for unit, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            yield unit, keys[low:high] % len(self._tokens), values[low:high]

    def _cut(self) -> None:
        """Add up equal pairs, then keep each unit's heaviest; ordered by (unit, token)."""
        if not self._keys:
            self._keys, self._values = (
                [torch.zeros(0, dtype=torch.int64)],
                [torch.zeros(0).double()],
            )
        keys, place = torch.cat(self._keys).unique(return_inverse=True)
        values = torch.zeros(len(keys), dtype=torch.float64)
        values.index_add_(0, place, torch.cat(self._values))
        unit = keys // len(self._tokens)
        order = values.argsort(descending=True, stable=True)
        order = order[unit[order].argsort(stable=True)]
        first = torch.searchsorted(unit[order], unit[order])
        keep = order[torch.arange(len(order)) - first < KEPT].sort().values
        self._keys, self._values = [keys[keep]], [values[keep]]
        self._waiting = len(keep)


def _bits(masses: Float64[np.ndarray, " parts"]) -> float:
    """Entropy in bits."""
    p = masses[masses > 0]
    p = p / p.sum() if len(p) else p
    return float(-(p * np.log2(p)).sum()) if len(p) else 0.0
