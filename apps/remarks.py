"""The reader's own label, rating and comment on a unit: shown, edited, kept."""

import streamlit as st

from apps import _cache, notes, parts
from apps.notes import RATINGS, Note
from apps.tokens import plain
from interp.errors import InterpError
from interp.features.address import Address
from interp.features.table import UnitTable


@st.fragment
def remarks(table: UnitTable, address: Address) -> None:
    """What was noted about a unit, and a form to note more."""
    path = notes.path_of(table.path)
    place = st.empty()
    with st.expander("Your note", icon=":material/edit:"):
        _form(table, address, _cache.noted(path).get(address.index))
    note = _cache.noted(path).get(address.index)
    if note is not None:
        place.html(said(note, table))


def said(note: Note, table: UnitTable) -> str:
    """A note as HTML, with a warning if it was made on other units than the table's."""
    stars = "★" * (note.rating or 0)
    meant = f' <span class="why">{RATINGS[note.rating - 1]}</span>' if note.rating else ""
    other = note.table not in ("", table.key)
    warning = parts.tag("noted on another version of this table", "warn") if other else ""
    return (
        f'<div class="note"><b>{parts.text(plain(note.label, notes.LONGEST))}</b> '
        f"<span>{stars}{meant}</span> {warning}"
        f"<p>{parts.text(plain(note.comment, notes.LONGEST))}</p></div>"
    )


def _form(table: UnitTable, address: Address, note: Note | None) -> None:
    key, old = str(address), note or Note(unit=address.index, time="")
    with st.form(f"note-{key}", border=False):
        label = st.text_input("Label", old.label, max_chars=200, key=f"label-{key}")
        rating = st.select_slider(
            "Rating",
            [None, *range(1, len(RATINGS) + 1)],
            old.rating,
            format_func=lambda value: "none" if value is None else f"{value} {RATINGS[value - 1]}",
            key=f"rating-{key}",
        )
        comment = st.text_area(
            "Comment", old.comment, max_chars=notes.LONGEST, height=80, key=f"comment-{key}"
        )
        if not st.form_submit_button("Save", icon=":material/save:", key=f"save-{key}"):
            return
    new = Note(
        unit=address.index,
        time=notes.now(),
        label=label.strip(),
        rating=rating,
        comment=comment.strip(),
        table=table.key,
    )
    try:
        notes.append(notes.path_of(table.path), new)
    except InterpError as error:
        st.error(str(error))
