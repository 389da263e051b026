"""A site's units at a glance: score against density as a map, and the score's distributions."""

import numpy as np
import pandas as pd
import streamlit as st

from apps import charts
from apps.listing import Listing
from apps.navigation import go
from apps.theme import Mark

SCORE = "monosemanticity"
"""The column that the map and the distributions show."""


def scatter(listing: Listing, rows: np.ndarray, look: dict[str, Mark], dark: bool) -> None:
    """Each unit as a point; clicking one opens it."""
    x, y = listing.column("density"), listing.column(SCORE)
    drawn = rows[(x[rows] > 0) & np.isfinite(y[rows])]
    shown = charts.sample(drawn)
    if not len(shown):
        st.info("None of these units has a score.")
        return
    frames: dict[str, pd.DataFrame] = {}
    for number, basis in enumerate(listing.bases):
        own = shown[listing.basis[shown] == number]
        if len(own):
            columns = {"unit": listing.index[own], "density": x[own], "score": y[own]}
            frames[basis] = pd.DataFrame(columns).astype({"density": "f4", "score": "f4"})
    spec = charts.scatter(frames, look, x=("density", "density"), y=("score", SCORE), dark=dark)
    event = st.echarts_chart(
        spec,
        height=380,
        on_select="rerun",
        key="map",
        alt=f"{len(shown)} units: monosemanticity score against density, one shape a basis",
    )
    sampled = (
        f"A seeded sample of {len(shown):,} of {len(drawn):,}. " if len(shown) < len(drawn) else ""
    )
    st.caption(
        f"{sampled}0 is chance, 1 is one kind of context only. Click a point to open the unit."
    )
    for group in event.selection.selected:
        basis, place = list(frames)[group["series_index"]], group["data_indices"][0]
        unit = int(frames[basis]["unit"].iloc[place])
        go("unit", unit=f"{listing.model}/{listing.site}/{basis}/{unit}")


def distribution(listing: Listing, rows: np.ndarray, look: dict[str, Mark], dark: bool) -> None:
    """The cumulative distribution of the score, one curve a basis."""
    score = listing.column(SCORE)
    values = {
        basis: found[np.isfinite(found)]
        for number, basis in enumerate(listing.bases)
        if len(found := score[rows[listing.basis[rows] == number]])
    }
    values = {basis: found for basis, found in values.items() if len(found)}
    if not values:
        return
    medians = ", ".join(f"{basis} {np.median(found):.3f}" for basis, found in values.items())
    st.echarts_chart(
        charts.ecdf(values, look, label=SCORE, dark=dark),
        height=380,
        key="ecdf",
        alt=f"Cumulative distribution of the score per basis; medians: {medians}",
    )
    st.caption(f"Medians: {medians}. Units of all densities together.")
