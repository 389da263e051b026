"""The script Streamlit runs: `streamlit run apps/browser.py`, or rather `interp app`.

It only sets the page up and hands over to one file of `apps/views`. Nothing here or in the views
imports torch but pages that run a model, and those only once they have something to run it on.
"""

import sys
from pathlib import Path

import streamlit as st

ROOT = str(Path(__file__).resolve().parent.parent)
if ROOT not in sys.path:  # `streamlit run` puts apps/ itself on the path, not what holds it
    sys.path.insert(0, ROOT)


def main() -> None:
    """Draw the page that the URL names."""
    from apps import navigation, theme

    st.set_page_config(page_title="interp", page_icon=theme.ICON, layout="wide")
    st.html(theme.STYLE)
    navigation.mend_url()
    st.navigation(navigation.pages(), position="top").run()


main()
