"""Units: every unit of a site on one scale, as a map, as distributions and as a table."""

import numpy as np
import streamlit as st

from apps import _cache, inventory, overview, preview
from apps.listing import PAGE, Filter, Listing
from apps.navigation import go, link
from apps.overview import SCORE
from apps.theme import Mark, marks
from apps.walk import Walk
from interp.errors import InterpError
from interp.workspace import Workspace


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
    _draw(workspace, listing)


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
    wanted = _filter(listing)
    rows = listing.select(wanted)
    hidden = int((listing.columns["density"] == 0).sum()) if not wanted.dead else 0
    note = f", {hidden:,} dead hidden" if hidden else ""
    st.caption(f"{len(rows):,} of {len(listing):,} units{note}")
    if not len(rows):
        st.info("No unit passes these filters; widen them.")
        return
    left, right = st.columns([3, 2])
    with left:
        overview.scatter(listing, rows, look, dark)
    with right:
        overview.distribution(listing, rows, look, dark)
    _table(workspace, listing, rows, look)


def _filter(listing: Listing) -> Filter:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        bases = st.pills(
            "Basis", listing.bases, selection_mode="multi", key="basis", bind="query-params"
        )
        density = st.slider(
            "Density, log10",
            -7.0,
            0.0,
            (-7.0, 0.0),
            0.25,
            key="density",
            bind="query-params",
            width=260,
            help="share of tokens on which a unit is active",
        )
        least = st.number_input(
            "Score at least", value=None, key="least", bind="query-params", width=130, step=0.05
        )
        most = st.number_input(
            "Score at most", value=None, key="most", bind="query-params", width=130, step=0.05
        )
        dead = st.toggle("Dead units", key="dead", bind="query-params")
    low, high = (10.0**edge for edge in density)
    return Filter(
        bases=tuple(bases), column=SCORE, least=least, most=most, density=(low, high), dead=dead
    )


def _table(workspace: Workspace, listing: Listing, rows: np.ndarray, look: dict[str, Mark]) -> None:
    names = ["index", *(name for name in listing.columns if name not in ("dead", "rare"))]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        by = st.selectbox(
            "Sort by", names, names.index(SCORE), key="sort", bind="query-params", width=230
        )
        up = st.toggle("Smallest first", key="ascending", bind="query-params")
        page = st.pagination(-(-len(rows) // PAGE), key="page", bind="query-params")
    ordered = listing.sort(rows, by, ascending=up)
    shown = ordered[(page - 1) * PAGE : page * PAGE]
    frame = preview.frame(workspace, listing, shown, look)
    key = (
        f"rows-{hash((shown.tobytes(), by, up))}"  # a selection is a position: never carry it over
    )
    event = st.dataframe(
        frame,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        key=key,
        row_height=34,
        height=34 * len(shown) + 38,
        column_config=preview.config(),
        alt=f"{len(shown)} units sorted by {by}",
    )
    if event.selection.rows:
        row = int(shown[event.selection.rows[0]])
        st.session_state["walk"] = Walk(
            listing.model, listing.site, listing.bases, listing.basis[ordered],
            listing.index[ordered], by,
        )  # fmt: skip
        go("unit", unit=listing.address(row))
