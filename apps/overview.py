"""A site's units at a glance: score against density as a map, and the score's distributions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from apps import charts, parts
from apps.listing import Listing
from apps.navigation import go
from apps.theme import Mark

AREA = "area"
"""The query parameter that holds a rectangle of the map: least and most density, then score."""
SCORE = "monosemanticity"
"""The column that the map and the distributions show unless another is chosen."""
BAND = "Shaded: 95 % confidence band of the whole curve."
"""What stands around a distribution."""


def scatter(
    listing: Listing, rows: np.ndarray, score: str, look: dict[str, Mark], dark: bool
) -> None:
    """Each unit as a point; clicking one opens it."""
    x, y = listing.column("density"), listing.column(score)
    drawn = rows[(x[rows] > 0) & np.isfinite(y[rows])]
    shown = charts.sample(drawn)
    if not len(shown):
        st.info(f"None of these units has {score}.")
        return
    frames: dict[str, pd.DataFrame] = {}
    for number, basis in enumerate(listing.bases):
        own = shown[listing.basis[shown] == number]
        if len(own):
            columns = {"unit": listing.index[own], "density": x[own], "score": y[own]}
            frames[basis] = pd.DataFrame(columns).astype({"density": "f4", "score": "f4"})
    spec = charts.scatter(frames, look, x=("density", "density"), y=("score", score), dark=dark)
    event = st.echarts_chart(
        spec,
        height=380,
        on_select="rerun",
        key="map",
        alt=f"{len(shown)} units: {score} against density, one shape a basis",
    )
    sampled = (
        f"A seeded sample of {len(shown):,} of {len(drawn):,}. " if len(shown) < len(drawn) else ""
    )
    scale = "0 is chance, 1 is one kind of context only. " if score == SCORE else ""
    st.caption(
        f"{sampled}{scale}Click a point to open the unit; draw a rectangle to list its units."
    )
    if _brushed(event.selection.areas):
        return
    for group in event.selection.selected:
        basis, place = list(frames)[group["series_index"]], group["data_indices"][0]
        unit = int(frames[basis]["unit"].iloc[place])
        go("unit", unit=f"{listing.model}/{listing.site}/{basis}/{unit}")


def _brushed(areas: Sequence[Mapping[str, Any]]) -> bool:
    """Put what was brushed into the URL, from where the table takes it; whether anything is."""
    rectangles = [area["coord_range"] for area in areas if area["brush_type"] == "rect"]
    drawn = (
        ",".join(f"{edge:.4g}" for pair in rectangles[-1] for edge in pair) if rectangles else ""
    )
    before = st.session_state.get("brushed", "")
    if drawn != before:
        st.session_state["brushed"] = drawn
        if drawn:
            st.query_params[AREA] = drawn
        else:
            st.query_params.pop(AREA, None)
        st.rerun()
    return bool(drawn)


def within(listing: Listing, rows: np.ndarray, score: str) -> np.ndarray:
    """The rows within the rectangle that the URL holds, all if it holds none; says which."""
    asked = st.query_params.get(AREA)
    if not asked:
        return rows
    try:
        x0, x1, y0, y1 = (float(edge) for edge in asked.split(","))
    except ValueError:
        st.warning(f"{asked!r} is no area of the map; showing all units.")
        return rows
    x, y = listing.column("density")[rows], listing.column(score)[rows]
    kept = rows[(x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"{len(kept):,} units of the rectangle: density {parts.percent(x0)} to "
            f"{parts.percent(x1)}, {score} {parts.number(y0)} to {parts.number(y1)}.",
            width="content",
        )
        st.button(
            "All units", icon=":material/close:", type="tertiary", key="no-area",
            on_click=_forget,
        )  # fmt: skip
    return kept


def _forget() -> None:
    st.query_params.pop(AREA, None)


def distribution(
    listing: Listing, rows: np.ndarray, score: str, look: dict[str, Mark], dark: bool
) -> None:
    """The cumulative distribution of the score, one curve a basis; by default density-matched."""
    control = f"{score}_control"
    matched = control in listing.columns and st.toggle(
        "Density-matched",
        value=True,
        key="matched",
        bind="query-params",
        help="compare each unit with random directions that are active as often",
    )
    shown = listing.column(control if matched else score)
    finite = {
        basis: found[np.isfinite(found)]
        for number, basis in enumerate(listing.bases)
        if len(found := shown[rows[listing.basis[rows] == number]])
    }
    values = {basis: found for basis, found in finite.items() if len(found)}
    if not values:
        return
    medians = ", ".join(f"{basis} {np.median(found):.3f}" for basis, found in values.items())
    label = f"share of controls with lower {score}" if matched else score
    st.echarts_chart(
        charts.ecdf(values, look, label=label, dark=dark, diagonal=matched),
        height=380 - 50 * (control in listing.columns),
        key="ecdf",
        alt=f"Cumulative distribution of {label} per basis; medians: {medians}",
    )
    missing = int(np.isfinite(listing.column(score)[rows]).sum()) - sum(map(len, values.values()))
    if matched:
        left = f" {missing:,} units denser or rarer than any control are left out." * (missing > 0)
        st.caption(f"Medians: {medians}. The grey diagonal is chance. {BAND}{left}")
    else:
        st.caption(f"Medians: {medians}. Units of all densities together. {BAND}")
