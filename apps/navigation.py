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
    "training": ("Training", ":material/show_chart:"),
    "lab": ("Lab", ":material/science:"),
    "notes": ("Notes", ":material/bookmark:"),
    "text": ("Your text", ":material/edit_note:"),
}


def page(name: str) -> Page:
    """A page as Streamlit knows it; made anew each run, because runs of users must share none."""
    title, icon = _PAGES[name]
    return Page(_view(name), title=title, icon=icon, url_path=name, default=name == "home")


def pages() -> list[Page]:
    """All pages, in the order of the menu."""
    return [page(name) for name in _PAGES]


def link(name: str, label: str, icon: str | None = None, **query: str) -> None:
    """A link to a page with its state in the URL."""
    st.page_link(page(name), label=label, icon=icon, query_params=query)


def go(name: str, **query: str) -> None:
    """Open a page with its state in the URL; ends this run."""
    st.switch_page(page(name), query_params=query)
