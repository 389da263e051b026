"""Units: every unit of a site on one scale, as a map, as distributions and as a table."""

import numpy as np
import streamlit as st

from apps import _cache, export, inventory, keys, overview, panels, preview, scores, words
from apps.listing import PAGE, Filter, Listing
from apps.navigation import go, link
from apps.notes import Note
from apps.overview import SCORE
from apps.theme import Mark, marks
from apps.walk import Walk
from interp.errors import InterpError
from interp.features.table import UnitTable
from interp.workspace import Workspace

USUAL = (
    "monosemanticity",
    "senses_effective",
    "rule_auroc",
    "density",
    "max",
    preview.RULE,
    preview.CONTEXT,
    preview.PROMOTES,
)
"""Columns of the table unless others are chosen."""


def show() -> None:
    """Draw the page."""
    workspace = Workspace.at()
    tables = _cache.tables(workspace)
    places = [f"{m}/{s}" for m, found in inventory.sites(tables).items() for s in found]
    if not places:
        st.title("Units", anchor=False)
        st.info("No unit table here yet. `interp extract STORE SITE` measures a site's units.")
        link("home", "What the workspace holds", ":material/home:")
        return
    place = _place(places)
    mine = [item for item in tables if item.name.rpartition("/")[0] == place]
    for item in mine:
        if item.state != "ready":
            st.warning(f"`{item.path.name}` is left out: {item.note}", icon=":material/warning:")
    try:
        listing = _cache.listing([item.path for item in mine if item.state == "ready"])
    except InterpError as error:
        st.error(str(error))
        return
    _warn(workspace, listing)
    _draw(workspace, listing)


def _warn(workspace: Workspace, listing: Listing) -> None:
    """Say so where a store knows no tokens, so that nobody reads meaning into its scores."""
    table = _cache.table(workspace.units(listing.model, listing.site, listing.bases[0]))
    store, _ = panels.source(workspace, table)
    if store is not None and not words.has_tokens(store):
        st.warning(words.UNKNOWN, icon=":material/warning:")


def _place(places: list[str]) -> str:
    asked = st.query_params.get("site")
    if asked is not None and asked not in places:
        st.warning(f"No units of site {asked!r} in this workspace; showing {places[0]}.")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title("Units", anchor=False, width="content")
        return st.selectbox(
            "Site",
            places,
            key="site",
            bind="query-params",
            width=420,
            label_visibility="collapsed",
        )


def _draw(workspace: Workspace, listing: Listing) -> None:
    dark = st.context.theme.type == "dark"
    look = marks(listing.bases)
    bar = st.container(horizontal=True, vertical_alignment="bottom")
    with bar:
        wanted = _filter(listing)
    rows = listing.select(wanted)
    hidden = int((listing.columns["density"] == 0).sum()) if not wanted.dead else 0
    note = f", {hidden:,} dead hidden" if hidden else ""
    bar.caption(f"{len(rows):,} of {len(listing):,} units{note}", width="content")
    if not len(rows):
        st.info("No unit passes these filters; widen them.")
        return
    left, right = st.columns([3, 2])
    with left:
        overview.scatter(listing, rows, wanted.column, look, dark)
    with right:
        overview.distribution(listing, rows, wanted.column, look, dark)
    rows = overview.within(listing, rows, wanted.column)
    if len(rows):
        _table(workspace, listing, rows, wanted.column, look)
    keys.slash()


def _filter(listing: Listing) -> Filter:
    names = scores.choices(listing.columns)
    bases = st.pills(
        "Basis", listing.bases, selection_mode="multi", key="basis", bind="query-params"
    )
    column = st.selectbox(
        "Score",
        names,
        names.index(SCORE) if SCORE in names else 0,
        key="score",
        bind="query-params",
        width=230,
        help="what the map, the distributions and the bounds are about",
        on_change=_sort_by_score,
    )
    least = st.number_input(
        "at least", value=None, key="least", bind="query-params", width=120, step=0.05
    )
    most = st.number_input(
        "at most", value=None, key="most", bind="query-params", width=120, step=0.05
    )
    density = st.slider(
        "Density, log10",
        -7.0,
        0.0,
        (-7.0, 0.0),
        0.25,
        key="density",
        bind="query-params",
        width=220,
        help="share of tokens on which a unit is active",
    )
    sought = None
    if any(listing.rules):
        sought = st.text_input(
            "Rule contains",
            key=keys.FIELD,
            bind="query-params",
            width=200,
            type="search",
            placeholder="a token, a domain, … (key: /)",
        )
    dead = st.toggle("Dead units", key="dead", bind="query-params")
    low, high = (10.0**edge for edge in density)
    return Filter(
        bases=tuple(bases),
        column=column,
        least=least,
        most=most,
        density=(low, high),
        dead=dead,
        words=(sought or "").strip(),
    )


def _sort_by_score() -> None:
    st.session_state["sort"] = st.session_state["score"]
    st.query_params.pop(overview.AREA, None)  # its other edge was of another score


def _table(
    workspace: Workspace, listing: Listing, rows: np.ndarray, score: str, look: dict[str, Mark]
) -> None:
    names = scores.choices(listing.columns)
    usual = [name for name in dict.fromkeys((score, *USUAL)) if name in (*names, *preview.TEXTS)]
    if not any(listing.rules):
        usual.remove(preview.RULE)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        order = ["index", *names]
        by = st.selectbox(
            "Sort by", order, order.index(score), key="sort", bind="query-params", width=230
        )
        up = st.toggle("Smallest first", key="ascending", bind="query-params")
        page = st.pagination(-(-len(rows) // PAGE), key="page", bind="query-params")
        with st.popover("Columns", icon=":material/view_column:"):
            chosen = st.multiselect(
                "Columns", [*names, *preview.TEXTS], usual, key="columns", bind="query-params"
            )
    asked = [by, *([score] if score != SCORE else [])]
    chosen = [*(name for name in dict.fromkeys(asked) if name not in (*chosen, "index")), *chosen]
    ordered = listing.sort(rows, by, ascending=up)
    shown = ordered[(page - 1) * PAGE : page * PAGE]
    notes = _cache.notes(listing, workspace)
    tables = [
        _cache.table(workspace.units(listing.model, listing.site, each)) for each in listing.bases
    ]
    definitions = {name: what for table in tables for name, what in table.scores.items()}
    st.caption("Tick a row to open its unit.")
    frame = preview.frame(workspace, listing, shown, look, chosen, notes)
    # A selection is a position: never carry it over to other rows.
    key = f"rows-{hash((shown.tobytes(), by, up))}"
    event = st.dataframe(
        frame,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=key,
        row_height=34,
        height=34 * len(shown) + 38,
        column_config=preview.config(chosen, definitions),
        alt=f"{len(shown)} units sorted by {by}",
    )
    if event.selection.rows:
        row = int(shown[event.selection.rows[0]])
        st.session_state["walk"] = Walk(
            listing.model, listing.site, listing.bases, listing.basis[ordered],
            listing.index[ordered], by,
        )  # fmt: skip
        go("unit", unit=listing.address(row))
    figures = [name for name in chosen if name not in preview.TEXTS]
    _downloads(listing, ordered, figures, tables, notes)


def _downloads(
    listing: Listing,
    rows: np.ndarray,
    names: list[str],
    tables: list[UnitTable],
    notes: dict[str, Note],
) -> None:
    """The whole filtered table as a file, made when it is asked for."""
    stem = f"units-{listing.model}-{listing.site}"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            f"CSV of {len(rows):,} units",
            lambda: export.csv(export.frame(listing, rows, names, notes)),
            f"{stem}.csv",
            "text/csv",
            key="csv",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            f"JSON of {len(rows):,} units",
            lambda: export.as_json(export.frame(listing, rows, names, notes), tables),
            f"{stem}.json",
            "application/json",
            key="json",
            icon=":material/download:",
            on_click="ignore",
        )
        st.caption("With addresses, the chosen columns, rules and your notes.")
