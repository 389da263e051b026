"""One page of the units table: figures and a glimpse of what each unit fires on."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from apps import _cache, contexts, panels
from apps.listing import Listing
from apps.theme import Mark
from apps.tokens import plain
from interp.errors import InterpError
from interp.features.table import UnitTable
from interp.store import ActivationStore
from interp.workspace import Workspace

GLYPHS = {"circle": "●", "square": "■", "diamond": "◆", "triangle": "▲"}
REACH = 5


def frame(
    workspace: Workspace, listing: Listing, rows: np.ndarray, look: dict[str, Mark]
) -> pd.DataFrame:
    """The given rows of a listing, as shown."""
    names = [listing.bases[number] for number in listing.basis[rows]]
    values: dict[str, Any] = {
        "basis": [f"{GLYPHS[look[name].shape]} {name}" for name in names],
        "unit": listing.index[rows],
    }
    for column in ("monosemanticity", "density", "max"):
        if column in listing.columns:
            values[column] = listing.columns[column][rows]
    values["density"] = 100 * values["density"]
    sources = {name: _source(workspace, listing, name) for name in set(names)}
    glimpses = [
        _glimpse(*sources[name], int(index))
        for name, index in zip(names, listing.index[rows], strict=True)
    ]
    values["strongest context"] = [context for context, _ in glimpses]
    values["promotes"] = [promoted for _, promoted in glimpses]
    return pd.DataFrame(values)


def config() -> dict[str, Any]:
    """How the columns are drawn."""
    number = st.column_config.NumberColumn
    return {
        "basis": st.column_config.TextColumn("basis", width="medium"),
        "unit": number("unit", format="%d", width="small"),
        "monosemanticity": number(
            "score",
            format="%.3f",
            width="small",
            help="monosemanticity: 0 is chance, 1 one kind of context only",
        ),
        "density": number("density %", format="%.3f", width="small", help="tokens it is active on"),
        "max": number("max", format="%.2f", width="small"),
        "strongest context": st.column_config.TextColumn("strongest context", width="large"),
        "promotes": st.column_config.TextColumn("promotes", width="medium"),
    }


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
        words = (store.vocabulary.text([token]).strip() for token, _ in promoted)
        strongest = contexts.strongest(table, store, unit, reach=REACH)
        return _line(strongest) if strongest else "", " · ".join(plain(word) for word in words)
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
