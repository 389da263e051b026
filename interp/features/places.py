"""Every place where a unit is active, with the text around it. No torch."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from interp.errors import ConfigError, DataError
from interp.features.activations import UnitActivations
from interp.store import ActivationStore


@dataclass(frozen=True)
class Place:
    """One row on which a unit is active."""

    row: int
    """Of the store."""
    value: float
    """The activation there."""
    document: int
    """Index into the store's documents."""
    before: str
    """The text before the token, within the document."""
    token: str
    """The token that the unit is active on."""
    after: str
    """The text behind it."""


def places(
    activations: UnitActivations,
    store: ActivationStore,
    unit: int,
    *,
    pattern: str = "",
    before: int = 24,
    after: int = 8,
    strongest_first: bool = False,
) -> Iterator[Place]:
    """All places of a unit, in order of rows or of activation.

    Args:
        activations: of the unit's basis.
        store: from which they were extracted.
        unit: its index.
        pattern: a regular expression; only places in whose text, token included, it is found.
        before: tokens of text before the token at most.
        after: tokens behind it at most.
        strongest_first: sort by falling activation; on equal activations by row.

    Raises:
        ConfigError: the pattern is no regular expression.
        DataError: another store, or one without text.
        FormatError: no such unit, or a file is malformed.
    """
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"{pattern!r} is no regular expression ({error}); put \\ before signs that stand for "
            "themselves"
        ) from error
    if store.digest != activations.store_digest:
        raise DataError(
            f"{activations.path} was not extracted from {store.path} as it is now; run "
            "`interp extract` with --activations again"
        )
    if not store.manifest.vocabulary:
        raise DataError(f"store {store.name} has no text: its rows have no vocabulary")
    rows, values = activations.of(unit)
    order = np.argsort(-values, kind="stable") if strongest_first else np.arange(len(rows))
    return _found(store, rows[order], values[order], wanted, before, after)


def _found(
    store: ActivationStore,
    rows: np.ndarray,
    values: np.ndarray,
    wanted: re.Pattern[str],
    before: int,
    after: int,
) -> Iterator[Place]:
    text = store.vocabulary.text
    for row, value in zip(rows.tolist(), values.tolist(), strict=True):
        document = int(store.document_index[row])
        first = store.documents[document].first_row
        last = first + store.documents[document].rows
        low, high = max(first, row - before), min(last, row + 1 + after)
        ids = store.tokens[low:high].tolist()
        parts = (
            text(ids[: row - low]),
            text(ids[row - low : row - low + 1]),
            text(ids[row - low + 1 :]),
        )
        # As one: a character may be split over tokens.
        if wanted.search(text(ids)):
            yield Place(row, value, document, *parts)
