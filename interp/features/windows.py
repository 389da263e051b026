"""A unit's activations around its chosen contexts."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float16, Int64

from interp.features.bases import Basis
from interp.features.codes import Codes
from interp.store import ActivationStore

ENTRIES = 16_000_000
"""Window entries looked up at a time; bounds memory."""


def windows(
    basis: Basis,
    store: ActivationStore,
    peaks: Int64[np.ndarray, "units strata keep"],
    *,
    first: int,
    before: int,
    after: int,
    codes: Codes | None,
    batch: int,
) -> Float16[np.ndarray, "units strata keep window"]:
    """Activations from ``before`` rows before each peak to ``after`` behind it.

    0 outside the peak's document, on attention sinks, and where there is no peak (-1).

    Args:
        basis: whose units.
        store: whose rows.
        peaks: chosen rows of every unit.
        first: number of the first of these units within the basis.
        before: rows before a peak.
        after: rows behind a peak.
        codes: these units' kept activations; without them the rows are encoded again.
        batch: rows encoded at a time.
    """
    width = before + 1 + after
    out = np.zeros((*peaks.shape, width), np.float16)
    flat = out.reshape(len(peaks), -1)
    per_unit = peaks[0].size * width
    step = max(1, ENTRIES // per_unit)
    for start in range(0, len(peaks), step):
        part = peaks[start : start + step]
        rows, valid = _rows(store, part.reshape(len(part), -1), before, after)
        place = np.flatnonzero(valid)
        wanted, unit = rows.reshape(-1)[place], start + place // per_unit
        if codes is not None:
            found = codes.at(wanted, unit)
        else:
            found = _encoded(basis, store, wanted, first + unit, batch)
        flat[start : start + step].reshape(-1)[place] = np.minimum(found, 65504)
    return out


def _rows(
    store: ActivationStore, peaks: np.ndarray, before: int, after: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``[units, peaks, window]`` and which of them belong to a window."""
    rows = peaks[:, :, None] + np.arange(-before, after + 1)
    inside = (peaks[:, :, None] >= 0) & (rows >= 0) & (rows < store.rows)
    near = np.where(inside, rows, 0)
    home = store.document_index[np.maximum(peaks, 0)]
    return near, inside & (store.document_index[near] == home[:, :, None]) & ~store.sinks[near]


def _encoded(
    basis: Basis, store: ActivationStore, rows: np.ndarray, units: np.ndarray, batch: int
) -> np.ndarray:
    out = np.zeros(len(rows), np.float32)
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    for low, high in _spans(ordered, batch):
        part = order[low:high]
        needed, local = np.unique(rows[part], return_inverse=True)
        x = store.read(basis.site, int(needed[0]), int(needed[-1]) + 1)[needed - needed[0]]
        with torch.inference_mode():
            z = basis.encode(torch.from_numpy(x)).float().cpu().numpy()
        out[part] = z[local, units[part]]
    return out


def _spans(ordered: np.ndarray, batch: int) -> Iterator[tuple[int, int]]:
    """Parts of ascending rows that lie within ``batch`` rows of the store."""
    block = ordered // batch
    edges = np.concatenate([[0], np.flatnonzero(np.diff(block)) + 1, [len(ordered)]])
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        if high > low:
            yield int(low), int(high)
