"""Your text: which units fire on each token of a text of one's own, neurons above latents."""

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from apps import _cache, contexts, inventory, parts, rulers
from apps.navigation import link
from apps.passage import passage
from apps.theme import Mark, marks, unit_noun
from apps.tokens import plain, strip
from interp.errors import InterpError
from interp.features.table import UnitTable
from interp.store import ActivationStore
from interp.workspace import Workspace

if TYPE_CHECKING:
    from apps.reading import Reading

UNITS = 8
LATENTS = 6
"""Rows of the second ruler."""


def show() -> None:
    """Draw the page."""
    workspace = Workspace.at()
    st.title("Your text", anchor=False)
    st.html(
        '<p class="lede">Two rulers on one text: the row of a neuron, and under it the rows of '
        "latents that fire where it does. Then the units that fire most.</p>"
    )
    tables = [item for item in _cache.tables(workspace) if item.state == "ready"]
    places = [f"{m}/{s}" for m, found in inventory.sites(tables).items() for s in found]
    if not places:
        st.info("No unit table here yet. `interp extract STORE SITE` measures a site's units.")
        link("home", "What the workspace holds", ":material/home:")
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        place = st.selectbox("Site", places, key="site", bind="query-params", width=420)
        known = [item.name.split("/")[2] for item in tables if item.name.startswith(f"{place}/")]
        chosen = st.pills(
            "Bases", known, selection_mode="multi", default=known, key="bases", bind="query-params"
        )
    text = passage()
    if text is None:
        return
    if not chosen:
        st.info("Choose at least one basis.")
        return
    try:
        model, _, site = place.partition("/")
        _answer(workspace, model, site, tuple(chosen), text)
    except InterpError as error:
        st.error(str(error))


def _answer(
    workspace: Workspace, model: str, site: str, chosen: tuple[str, ...], text: str
) -> None:
    tables = [_cache.table(workspace.units(model, site, basis)) for basis in chosen]
    store = _cache.store(workspace.store(tables[0].store))
    for table in tables:
        contexts.check_match(table, store)
    reading = _cache.reading(workspace, tables, text)
    dark = st.context.theme.type == "dark"
    look = marks(chosen)
    _rulers(dict(zip(chosen, tables, strict=True)), reading, (model, site), look, dark)
    token = _token(reading)
    for basis in chosen:
        st.html(
            f'<div class="stratum"><b>{parts.swatch(look[basis], dark)}{parts.text(basis)}</b>'
            f"<span>{unit_noun(basis)}s by the share of their own maximum reached</span></div>"
        )
        _units(workspace, (model, site, basis), reading, store, token)


def _rulers(
    tables: dict[str, UnitTable],
    reading: "Reading",
    place: tuple[str, str],
    look: dict[str, Mark],
    dark: bool,
) -> None:
    """A unit's row, a neuron's unless asked otherwise, above those of what fires where it does."""
    measured = {
        basis: rulers.Measured(
            stem=f"{place[0]}/{place[1]}/{basis}",
            noun=unit_noun(basis),
            mark=look[basis],
            called=table.unit_name,
            share=rulers.shares(reading.activations[basis], table.columns["max"]),
        )
        for basis, table in tables.items()
    }
    first = "neurons" if "neurons" in measured else next(iter(measured))
    peaks = measured[first].share.max(axis=0)
    ranked = [int(unit) for unit in np.argsort(-peaks, kind="stable")[:50] if peaks[unit] > 0]
    if not ranked:
        st.caption(f"No unit of {first} fires here.")
        return
    options = {f"{first}/{unit}": unit for unit in ranked}
    asked = st.query_params.get("ruler", "")
    basis, _, index = asked.rpartition("/")
    if basis == first and index.isdecimal() and int(index) < tables[first].n_units:
        options = {asked: int(index), **options}
    elif asked:
        st.warning(f"{asked!r} is no unit of {first}; showing the strongest instead.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        picked = st.selectbox(
            "Ruler", list(options), key="ruler", bind="query-params", width=320,
            help="the unit of the first row; the strongest on this text come first",
        )  # fmt: skip
        learned = [each for each in measured if each not in (first, "random")]
        below = st.selectbox("Against", learned or [first], key="below", width=320)
    top = measured[first].row(options[picked])
    under = rulers.alike(top.share, measured[below].share, LATENTS + (below == first))
    rows = [measured[below].row(unit) for unit in under]
    rows = [row for row in rows if row.address != top.address][:LATENTS]
    shown = rulers.data(reading.pieces, [top, *rows], measured, dark=dark)
    rulers.draw(shown, "rulers")
    st.caption(
        f"Rows of {below}: those that fire where the first row does, most in common first. "
        "Shades are shares of each unit's own maximum over the store."
    )


def _token(reading: "Reading") -> int | None:
    """The token to rank by, or None for the whole text."""
    names = [f"{at}: {plain(piece)}" for at, piece in enumerate(reading.pieces) if piece]
    picked = st.selectbox(
        "Rank units by",
        ["the whole text", *names],
        key="token",
        bind="query-params",
        width=320,
        help="one token, or the strongest token of the text for each unit",
    )
    return None if picked == "the whole text" else int(picked.partition(":")[0])


def _units(
    workspace: Workspace,
    place: tuple[str, str, str],
    reading: "Reading",
    store: ActivationStore,
    token: int | None,
) -> None:
    from apps.reading import strongest

    table = _cache.table(workspace.units(*place))
    values = reading.activations[place[2]]
    units = strongest(values, table.columns["max"], UNITS, token)
    if not units:
        st.caption("No unit of this basis fires here.")
        return
    score = table.columns.get("monosemanticity")
    for unit in units:
        peak = int(values[:, unit].argmax()) if token is None else token
        share = float(values[peak, unit] / table.columns["max"][unit])
        note = f" · monosemanticity {parts.number(float(score[unit]))}" if score is not None else ""
        tokens = contexts.tokens(store, reading.ids, reading.pieces, values[:, unit])
        left, right = st.columns([1, 6], vertical_alignment="center")
        with left:
            link("unit", f"{unit_noun(place[2])} {unit}", unit=f"{'/'.join(place)}/{unit}")
        with right:
            st.html(
                f"{strip(tokens, float(table.columns['max'][unit]), peak=peak)}"
                f'<span class="tk-legend">{share:.0%} of its maximum{note}</span>'
            )
