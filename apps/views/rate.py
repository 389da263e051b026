"""Blind rating: units by their contexts, neuron or latent hidden, rated; a summary at the end."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import streamlit as st

from apps import _cache, blind, contexts, inventory, notes, panels, parts
from apps.blind import Mean, Rating
from apps.contexts import Passage
from apps.inventory import Item
from apps.navigation import link
from apps.theme import is_control, marks, unit_noun
from apps.tokens import legend, plain
from interp.errors import InterpError
from interp.features.table import UnitTable
from interp.store import ActivationStore
from interp.workspace import Workspace


def show() -> None:
    """Draw the page."""
    workspace = Workspace.at()
    st.title("Blind rating", anchor=False)
    tables = [item for item in _cache.tables(workspace) if item.state == "ready"]
    places = [f"{m}/{s}" for m, found in inventory.sites(tables).items() for s in found]
    places = [place for place in places if len(_bases(tables, place)) > 1]
    if not places:
        st.info("Two measured bases of one site are needed. `interp extract STORE SITE` does it.")
        link("home", "What the workspace holds", ":material/home:")
        return
    place, chosen, each, seed = _round(tables, places)
    model, _, site = place.partition("/")
    opened = {basis: _cache.table(workspace.units(model, site, basis)) for basis in chosen}
    try:
        found = blind.draw(
            {basis: table.columns["density"] for basis, table in opened.items()}, each, seed
        )
    except InterpError as error:
        st.info(str(error))
        return
    drawn = found.units
    if not found.matched:
        st.caption(
            "These bases have too few units of like density, so they are drawn from all live ones: "
            "a unit that fires rarely may be told from that alone."
        )
    path = blind.path_of(workspace.units(model, site, "x").parent)
    made = {(one.basis, one.unit): one for one in _made(path, opened)}
    left = [unit for unit in drawn if unit not in made]
    done = len(drawn) - len(left)
    st.progress(done / len(drawn), f"{done} of {len(drawn)} rated; each is saved at once")
    ended = (
        st.toggle("End the round here", key="ended", bind="query-params")
        if 0 < done < len(drawn)
        else False
    )
    if left and not ended:
        source, why = panels.source(workspace, opened[left[0][0]])
        if source is None:
            st.warning(why, icon=":material/link_off:")
            return
        _ask(opened[left[0][0]], source, left[0], path, done, seed)
        return
    _summary(place, [made[unit] for unit in drawn if unit in made])


def _bases(tables: list[Item], place: str) -> list[str]:
    return [item.name.split("/")[2] for item in tables if item.name.startswith(f"{place}/")]


def _round(tables: list[Item], places: list[str]) -> tuple[str, list[str], int, int]:
    """Site, bases, units of each and seed: all in the URL, so that others can rate the same."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        place = st.selectbox("Site", places, key="site", bind="query-params", width=360)
        known = _bases(tables, place)
        usual = [name for name in known if not is_control(name)][:2] or known[:2]
        chosen = st.pills(
            "Bases", known, selection_mode="multi", default=usual, key="bases", bind="query-params"
        )
        each = st.number_input(
            "Of each", 1, 200, 20, key="each", bind="query-params", width=120,
            help="units of each basis, of like density",
        )  # fmt: skip
        seed = st.number_input(
            "Round", 0, 10**6, 0, key="round", bind="query-params", width=120,
            help="seed of the draw: the same number shows the same units in the same order",
        )  # fmt: skip
    return place, list(chosen), int(each), int(seed)


def _made(path: Path, opened: dict[str, UnitTable]) -> list[Rating]:
    """Ratings of units that are still the same."""
    return [
        each
        for each in blind.latest(path)
        if each.basis in opened and each.table == opened[each.basis].key
    ]


def _ask(
    table: UnitTable,
    store: ActivationStore,
    unit: tuple[str, int],
    path: Path,
    number: int,
    seed: int,
) -> None:
    """One unit's contexts, and the form. Nothing here may name its basis or index."""
    largest = float(table.columns["max"][unit[1]])
    st.html(legend(1.0, "share of its maximum"))
    for name, found in contexts.passages(table, store, unit[1]):
        if found:
            shown = [_shares(one, largest) for one in found[:4]]
            st.html(
                f'<div class="stratum"><b>{parts.text(name)}</b></div>'
                f"{contexts.listed(shown, 1.0, numbers=False)}"
            )
    words = f"label-{seed}-{number}"
    st.text_input("What does it fire on? (optional)", max_chars=blind.LONGEST, key=words)
    st.markdown("**How many things?** Keys 1 to 5; the next unit follows at once.")
    with st.container(horizontal=True):
        for rating, meaning in enumerate(blind.RATINGS, 1):
            st.button(
                f"{rating} {meaning}", shortcut=str(rating), key=f"rate-{rating}",
                on_click=_save, args=(path, unit, table.key, rating, words, seed),
            )  # fmt: skip
    if "unsaved" in st.session_state:
        st.error(st.session_state.pop("unsaved"))


def _save(path: Path, unit: tuple[str, int], key: str, rating: int, words: str, seed: int) -> None:
    # Read now: what was typed last arrives together with the click.
    label = str(st.session_state.get(words) or "").strip()
    new = Rating(
        basis=unit[0], unit=unit[1], time=notes.now(), rating=rating, label=label, table=key,
        round=seed,
    )  # fmt: skip
    try:
        blind.append(path, new)
    except InterpError as error:
        st.session_state["unsaved"] = str(error)


def _shares(one: Passage, largest: float) -> Passage:
    """A passage by shares of the unit's maximum: raw activations would tell what it is."""
    scale = largest if largest > 0 else 1.0
    tokens = [replace(token, value=token.value / scale) for token in one.tokens]
    return replace(one, value=one.value / scale, tokens=tokens)


def _summary(place: str, made: Sequence[Rating]) -> None:
    dark = st.context.theme.type == "dark"
    st.subheader("What they were", anchor=False)
    found = blind.summary(made)
    look = marks(list(found))
    st.html(
        parts.rows(
            ["basis", "rated", "mean rating", "95 % interval", *map(str, range(1, 6))],
            (
                [
                    f"{parts.swatch(look[name], dark)}{parts.text(name)}",
                    str(mean.count),
                    f"{mean.mean:.2f}",
                    _interval(mean),
                    *(str(sum(one.basis == name and one.rating == n for one in made))
                      for n in range(1, 6)),
                ]
                for name, mean in found.items()
            ),
            numeric=range(1, 9),
        )
    )  # fmt: skip
    first, *others = list(found)
    for other in others:
        gap = blind.difference(made, other, first)
        if gap is not None:
            st.caption(
                f"{parts.literal(other)} less {parts.literal(first)}: {gap.mean:+.2f}, "
                f"95 % interval {_interval(gap)} (Welch). 5 is one thing, 1 unlike things."
            )
    st.html(
        parts.rows(
            ["unit", "rating", "label"],
            (
                [
                    f'<a href="unit?unit={quote(f"{place}/{one.basis}/{one.unit}")}" '
                    f'target="_self">{parts.text(f"{one.basis} {one.unit}")}</a>',
                    f"{one.rating} {blind.RATINGS[one.rating - 1]}",
                    parts.text(plain(one.label, blind.LONGEST)),
                ]
                for one in made
            ),
        )
    )
    _downloads(place, made)


def _interval(mean: Mean) -> str:
    return "–" if np.isnan(mean.low) else f"{mean.low:.2f} to {mean.high:.2f}"


def _downloads(place: str, made: Sequence[Rating]) -> None:
    entries = [
        {"address": f"{place}/{one.basis}/{one.unit}", "kind": unit_noun(one.basis), **asdict(one)}
        for one in made
    ]
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.download_button(
            "JSON lines", lines.encode(), "ratings.jsonl", "application/jsonl", key="jsonl",
            icon=":material/download:", on_click="ignore",
        )  # fmt: skip
        st.download_button(
            "CSV", pd.DataFrame(entries).to_csv(index=False).encode(), "ratings.csv", "text/csv",
            key="csv", icon=":material/download:", on_click="ignore",
        )  # fmt: skip
        st.caption(f"Kept beside the unit tables as `{notes.BLIND}`, only ever appended to.")
