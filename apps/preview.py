"""One page of the units table: figures and a glimpse of what each unit fires on."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from apps import _cache, contexts, panels, words
from apps.listing import Listing
from apps.notes import Note
from apps.theme import Mark
from apps.tokens import plain
from interp.errors import InterpError
from interp.features.table import UnitTable
from interp.store import ActivationStore
from interp.workspace import Workspace

GLYPHS = {"circle": "●", "square": "■", "diamond": "◆", "triangle": "▲"}
REACH = 5
RULE, CONTEXT, PROMOTES = TEXTS = ("rule", "strongest context", "promotes")
"""Columns of words."""


def frame(
    workspace: Workspace,
    listing: Listing,
    rows: np.ndarray,
    look: dict[str, Mark],
    columns: Sequence[str],
    notes: Mapping[str, Note],
) -> pd.DataFrame:
    """The given rows of a listing, as shown."""
    names = [listing.bases[number] for number in listing.basis[rows]]
    values: dict[str, Any] = {
        "basis": [f"{GLYPHS[look[name].shape]} {name}" for name in names],
        "unit": listing.index[rows],
    }
    for column in columns:
        if column in listing.columns:
            values[column] = listing.columns[column][rows]
    if "density" in values:
        values["density"] = 100 * values["density"]
    if any(text in columns for text in (CONTEXT, PROMOTES)):
        sources = {name: _source(workspace, listing, name) for name in set(names)}
        glimpses = [
            _glimpse(*sources[name], int(index))
            for name, index in zip(names, listing.index[rows], strict=True)
        ]
        texts = {CONTEXT: [one for one, _ in glimpses], PROMOTES: [other for _, other in glimpses]}
    else:
        texts = {}
    if notes:
        values["label"] = [_label(notes.get(listing.address(int(row)))) for row in rows]
    if RULE in columns:
        values[RULE] = [plain(listing.rules[row], 200) for row in rows]
    values |= {name: texts[name] for name in columns if name in texts}
    return pd.DataFrame(values)


def config(columns: Sequence[str], definitions: Mapping[str, str]) -> dict[str, Any]:
    """How the columns are drawn, each score with its definition."""
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    found: dict[str, Any] = {
        # Wide enough for its name; "small" would cut the longest off.
        name: number(name, format="%.4g", width=28 + 7 * len(name), help=definitions.get(name))
        for name in columns
        if name not in TEXTS
    }
    return {
        **found,
        "basis": text("basis", width="medium"),
        "unit": number("unit", format="%d", width="small"),
        "density": number("density %", format="%.3f", width="small", help="tokens it is active on"),
        "label": text("label", width="medium", help="your own label and rating"),
        RULE: text("rule", width="medium", help="the best rule in words"),
        CONTEXT: text(CONTEXT, width="large"),
        PROMOTES: text(PROMOTES, width="medium"),
    }


def _label(note: Note | None) -> str:
    if note is None:
        return ""
    stars = "★" * (note.rating or 0)
    return f"{stars} {plain(note.label, 80)}".strip()


def _source(
    workspace: Workspace, listing: Listing, basis: str
) -> tuple[UnitTable | None, ActivationStore | None]:
    """A basis' table and its store; None where it cannot be read, and the cells stay empty."""
    try:
        table = _cache.table(workspace.units(listing.model, listing.site, basis))
    except InterpError:
        return None, None
    return table, panels.source(workspace, table)[0]


def _glimpse(table: UnitTable | None, store: ActivationStore | None, unit: int) -> tuple[str, str]:
    if table is None or store is None:
        return "", ""
    try:
        promoted = table.promoted(unit)[:5] if table.has_logits else []
        pieces = (words.word(store, token).strip() for token, _ in promoted)
        strongest = contexts.strongest(table, store, unit, reach=REACH)
        return _line(strongest) if strongest else "", " · ".join(plain(piece) for piece in pieces)
    except InterpError:
        return "", ""


def _line(passage: contexts.Passage) -> str:
    def text(tokens: list[Any]) -> str:
        return "".join(plain(token.text) for token in tokens)

    before, peak, after = (
        passage.tokens[: passage.peak],
        passage.tokens[passage.peak],
        passage.tokens[passage.peak + 1 :],
    )
    word = plain(peak.text)
    gap = " " if word.startswith(" ") else ""
    return f"{text(before)}{gap}«{word.strip() or '␣' * len(word)}»{text(after)}"
