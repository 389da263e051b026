"""The pages, and how one leads to another. Every link carries the state it opens with."""

from collections.abc import Callable
from importlib import import_module

import streamlit as st
from streamlit import Page


def _view(name: str) -> Callable[[], None]:
    def show() -> None:
        import_module(f"apps.views.{name}").show()

    show.__name__ = name
    return show


_PAGES = {
    "home": ("Home", ":material/home:"),
    "units": ("Units", ":material/scatter_plot:"),
    "unit": ("Unit", ":material/target:"),
    "disentangle": ("Disentangle", ":material/account_tree:"),
    "intervene": ("Intervene", ":material/tune:"),
    "compare": ("Compare", ":material/compare_arrows:"),
    "training": ("Training", ":material/show_chart:"),
    "lab": ("Lab", ":material/science:"),
    "notes": ("Notes", ":material/bookmark:"),
    "rate": ("Blind rating", ":material/visibility_off:"),
    "text": ("Your text", ":material/edit_note:"),
    "jobs": ("Jobs", ":material/play_circle:"),
}


def page(name: str) -> Page:
    """A page as Streamlit knows it; made anew each run, because runs of users must share none."""
    title, icon = _PAGES[name]
    return Page(_view(name), title=title, icon=icon, url_path=name, default=name == "home")


def pages() -> list[Page]:
    """All pages, in the order of the menu."""
    return [page(name) for name in _PAGES]


def mend_url() -> None:
    """Give names in the URL their ``+`` back, which a URL written by hand turns into a space.

    No name of the workspace holds a space, and joined sites and owner/name models hold a ``+``.
    """
    for key in ("site", "unit", "one", "other", "dictionary"):
        value = st.query_params.get(key)
        if value and " " in value.strip():
            mended = value.strip().replace(" ", "+")
            st.query_params[key] = mended
            if key not in st.session_state:  # a widget bound to the URL has read it by now
                st.session_state[key] = mended


def link(name: str, label: str, icon: str | None = None, **query: str) -> None:
    """A link to a page with its state in the URL."""
    st.page_link(page(name), label=label, icon=icon, query_params=query)


def go(name: str, **query: str) -> None:
    """Open a page with its state in the URL; ends this run."""
    st.switch_page(page(name), query_params=query)
