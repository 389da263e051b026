"""Where one types a text of one's own, for the pages that run the model on it."""

import streamlit as st

LONGEST = 20_000
"""Characters accepted at all; the model's own limit, in tokens, is checked after tokenizing."""


def passage() -> str | None:
    """The text, kept in the page's URL; None, and a word of comfort, while there is none."""
    text = st.text_area(
        "Text",
        key="text",
        bind="query-params",
        height=110,
        max_chars=LONGEST,
        placeholder="Type or paste a passage, then press Ctrl+Enter.",
    )
    if text and text.strip():
        return text
    st.caption("The model runs on this machine; the text goes nowhere else.")
    return None
