"""From a unit table's references to readable passages: tokens of the store with activations.

A table holds row numbers, not text. The text comes from the store the table was made from, if that
is still there and still the same; otherwise the page shows what it can and says what is missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apps import parts, words
from apps.tokens import Token, plain, strip
from interp.errors import FormatError
from interp.features.table import Stratum, UnitTable
from interp.store import ActivationStore


@dataclass(frozen=True, slots=True)
class Passage:
    """One context: the tokens around a peak, and where they stand."""

    value: float
    tokens: list[Token]
    peak: int
    """Position of the peak within `tokens`."""
    domain: str
    title: str
    heldout: bool


def check_match(table: UnitTable, store: ActivationStore) -> None:
    """Refuse to read rows of another capture than the table's.

    Raises:
        FormatError: the store was made again since.
    """
    if store.digest != table.store_digest:
        raise FormatError(
            f"store {store.name!r} is not the one this unit table was made from; run "
            f"`interp extract {store.name} {table.site}` again"
        )


def passages(
    table: UnitTable, store: ActivationStore, unit: int, *, reach: int | None = None
) -> list[tuple[str, list[Passage]]]:
    """Each stratum of a unit with its passages, strongest first.

    Args:
        table: the unit's table.
        store: the store it was made from.
        unit: its index.
        reach: at most so many tokens on either side of the peak.
    """
    return [
        (
            stratum.name,
            [read(table, store, stratum, place, reach) for place in range(len(stratum.rows))],
        )
        for stratum in table.contexts(unit)
    ]


def strongest(
    table: UnitTable, store: ActivationStore, unit: int, *, reach: int | None = None
) -> Passage | None:
    """A unit's first passage alone, or None for a dead unit."""
    for stratum in table.contexts(unit):
        if len(stratum.rows):
            return read(table, store, stratum, 0, reach)
    return None


def read(
    table: UnitTable,
    store: ActivationStore,
    stratum: Stratum,
    place: int,
    reach: int | None = None,
) -> Passage:
    """One context of a stratum, by its place."""
    far = max(table.before, table.after) if reach is None else reach
    return passage(
        store,
        int(stratum.rows[place]),
        float(stratum.values[place]),
        stratum.windows[place],
        table.before,
        min(table.before, far),
        min(table.after, far),
    )


def passage(
    store: ActivationStore,
    row: int,
    value: float,
    window: np.ndarray,
    centre: int,
    before: int,
    after: int,
) -> Passage:
    """The tokens around a row that belong to the same document and context window."""
    start, stop = max(row - before, 0), min(row + after + 1, store.rows)
    span = slice(start, stop)
    # Rows of one context window stand in order: position minus row is constant within it.
    offset = store.positions[span].astype(np.int64) - np.arange(start, stop)
    same = (store.document_index[span] == store.document_index[row]) & (
        offset == offset[row - start]
    )
    rows = np.arange(start, stop)[same]
    ids = store.tokens[rows]
    values = np.asarray(window, dtype=np.float32)[rows - row + centre]
    pieces = words.pieces(store, rows)
    document = store.documents[int(store.document_index[row])]
    return Passage(
        value=value,
        tokens=tokens(store, ids, pieces, values),
        peak=int(np.flatnonzero(rows == row)[0]),
        domain=document.domain,
        title=document.title,
        heldout=document.heldout,
    )


def tokens(
    store: ActivationStore,
    ids: Sequence[int] | np.ndarray,
    pieces: Sequence[str],
    values: Sequence[float] | np.ndarray,
) -> list[Token]:
    """Tokens with values, special ones marked."""
    specials = words.specials(store)
    return [
        Token(piece, float(value), int(id_) in specials)
        for id_, piece, value in zip(ids, pieces, values, strict=True)
    ]


def listed(found: Sequence[Passage], scale: float, *, numbers: bool) -> str:
    """Passages as one list of HTML: value, text, source."""
    lines = (
        f'<li><span class="val">{"" if one.value != one.value else parts.number(one.value)}</span>'
        f"{strip(one.tokens, scale, peak=one.peak, numbers=numbers)}"
        f'<span class="src"><b>{parts.text(plain(one.domain))}</b> {parts.text(plain(one.title))}'
        f"{' · held out' if one.heldout else ''}</span></li>"
        for one in found
    )
    return f'<ul class="ctx-list">{"".join(lines)}</ul>'
