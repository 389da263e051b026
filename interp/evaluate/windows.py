"""The token windows that a capture ran through the model, rebuilt from the store's rows.

A store keeps one row per token with its document and its position in the model's window; a
beginning-of-sequence token is never stored. A window starts where the document changes or the
position does not follow on.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from interp.errors import DataError
from interp.store import ActivationStore


@dataclass(frozen=True)
class Windows:
    """Windows of equal length: what the model reads, and which positions have a stored row."""

    tokens: Int64[np.ndarray, "windows length"]
    """Token ids, with the BOS token first where the capture had one."""
    replaced: Bool[np.ndarray, "windows length"]
    """Positions a dictionary stands in for: stored rows that are no attention sink."""
    documents: Int64[np.ndarray, " windows"]
    """The document of each window."""


def heldout_windows(
    store: ActivationStore, bos: int | None, *, limit: int, seed: int = 0
) -> list[Windows]:
    """Held-out windows of at least two tokens, a seeded choice of at most ``limit``.

    Returns:
        Groups of equal length, longest first.

    Raises:
        DataError: the store holds no held-out window, or rows that no window could have had.
    """
    position, document = store.positions, store.document_index
    # Signed: positions and documents may be stored unsigned.
    follows = np.diff(position.astype(np.int64)) == 1
    starts = np.flatnonzero(np.r_[True, ~(follows & (np.diff(document.astype(np.int64)) == 0))])
    stops = np.r_[starts[1:], len(position)]
    offset = 0 if bos is None else 1
    usable = store.heldout[starts] & (stops - starts + offset >= 2)
    if (position[starts[usable]] != offset).any():
        raise DataError(
            f"store {store.name} has windows that start at another position than {offset}; "
            "capture it again with this version"
        )
    chosen = np.flatnonzero(usable)
    if len(chosen) == 0:
        raise DataError(
            f"store {store.name} has no held-out window of two tokens; capture more documents"
        )
    if len(chosen) > limit:
        chosen = np.sort(np.random.default_rng([seed, 2]).choice(chosen, limit, replace=False))
    lengths = stops[chosen] - starts[chosen]
    groups: list[Windows] = []
    for length in sorted(set(lengths.tolist()), reverse=True):
        same = starts[chosen[lengths == length]]
        rows = same[:, None] + np.arange(length)
        tokens = store.tokens[rows].astype(np.int64)
        replaced = ~store.sinks[rows].astype(bool)
        if bos is not None:
            tokens = np.pad(tokens, ((0, 0), (1, 0)), constant_values=bos)
            replaced = np.pad(replaced, ((0, 0), (1, 0)), constant_values=False)
        groups.append(Windows(tokens, replaced, document[same].astype(np.int64)))
    return groups
