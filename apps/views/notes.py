"""Notes: everything the reader has said about units, all bases together, to go on or to export."""

import json
from dataclasses import asdict

import pandas as pd
import streamlit as st

from apps import _cache
from apps.navigation import go, link
from apps.notes import Note
from apps.tokens import plain
from interp.workspace import Workspace


def show() -> None:
    """Draw the page."""
    st.title("Notes", anchor=False)
    found = _cache.all_notes(Workspace.at())
    if not found:
        st.info("No note yet. Every unit's page has a form for a label, a rating and a comment.")
        link("units", "All units", ":material/scatter_plot:")
        return
    words = st.text_input(
        "Contains", key="words", bind="query-params", width=260, type="search"
    ).casefold()
    shown = {
        address: note
        for address, note in found.items()
        if words in f"{address} {note.label} {note.comment}".casefold()
    }
    st.caption(f"{len(shown):,} of {len(found):,} notes. Click a row to open its unit.")
    if not shown:
        return
    event = st.dataframe(
        _frame(shown),
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=f"notes-{hash(tuple(shown.items()))}",
        alt=f"{len(shown)} notes",
    )
    if event.selection.rows:
        go("unit", unit=list(shown)[event.selection.rows[0]])
    with st.container(horizontal=True, vertical_alignment="center"):
        lines = "".join(
            json.dumps({"address": address, **asdict(note)}, ensure_ascii=False) + "\n"
            for address, note in shown.items()
        )
        st.download_button(
            "JSON lines",
            lines.encode(),
            "notes.jsonl",
            "application/jsonl",
            key="jsonl",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "CSV",
            _frame(shown, cut=False).to_csv(index=False).encode(),
            "notes.csv",
            "text/csv",
            key="csv",
            icon=":material/download:",
            on_click="ignore",
        )
        st.caption(
            "Kept beside each unit table as `BASIS.notes.jsonl`, only ever appended to; files of "
            "several people are merged by putting one after the other."
        )


def _frame(found: dict[str, Note], *, cut: bool = True) -> pd.DataFrame:
    def text(words: str) -> str:
        return plain(words, 300) if cut else words

    notes = list(found.values())
    return pd.DataFrame(
        {
            "unit": list(found),
            "label": [text(note.label) for note in notes],
            "rating": pd.array([note.rating for note in notes], "Int64"),
            "comment": [text(note.comment) for note in notes],
            "time": [note.time[:19].replace("T", " ") for note in notes],
        }
    )
