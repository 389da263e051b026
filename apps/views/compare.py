"""Compare: two dictionaries, or two models on the same texts: what both have, what one lacks."""

from typing import cast
from urllib.parse import quote

import numpy as np
import streamlit as st

from apps import _cache, charts, overview, parts, scores, sides
from apps.matching import KINDS, MISSING, Matching
from apps.navigation import link
from apps.sides import Side
from apps.theme import DICTIONARIES, unit_noun
from apps.tokens import plain
from interp.errors import InterpError
from interp.features.address import Address
from interp.workspace import Workspace

PAGE = 25
THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
LOOK = dict(zip("AB", DICTIONARIES, strict=False))
MEANING = {
    "matched": "one unit of the other is its own",
    "split": "several units of the other are nearest to it",
    "merged": "what is nearest to it is nearer to another one",
    "missing": "the other has nothing like it",
}
FIGURES = {
    "fve": "held-out FVE",
    "l0": "L0",
    "dead_fraction": "dead",
    "loss_recovered": "loss recovered",
    "latents": "latents",
}


def show() -> None:
    """Draw the page."""
    workspace = Workspace.at()
    st.title("Compare", anchor=False)
    dictionaries = _cache.dictionaries(workspace)
    names = sides.choices(_cache.tables(workspace), dictionaries)
    if len(names) < 2:
        st.info("Two dictionaries, or two models' units, are needed. `interp train` makes one.")
        link("home", "What the workspace holds", ":material/home:")
        return
    pair = _choose(names)
    try:
        one, other = (sides.side(workspace, name, dictionaries) for name in pair)
    except InterpError as error:
        st.error(str(error))
        return
    if pair[0] == pair[1]:
        st.info("These are the same; choose another one to compare with.")
        return
    _figures(one, other)
    found, why = sides.ways(workspace, one, other)
    if not found:
        st.warning(f"Their units cannot be matched: {parts.literal(why)}")
    else:
        _match(one, other, found)
    _distributions(one, other)


def _choose(names: list[str]) -> tuple[str, str]:
    for key in ("one", "other"):
        asked = st.query_params.get(key)
        if asked is not None and asked not in names:
            st.warning(f"Nothing called {asked!r} can be compared here; showing another.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        one = st.selectbox("A", names, key="one", bind="query-params", width=480)
        other = st.selectbox(
            "B", names, names.index(sides.partner(one, names)), key="other", bind="query-params",
            width=480,
        )  # fmt: skip
    return one, other


def _figures(one: Side, other: Side) -> None:
    """What was measured of both, under each other."""
    dark = st.context.theme.type == "dark"
    shown = [
        key
        for key in FIGURES
        if any(isinstance(s.figures.get(key), int | float) for s in (one, other))
    ]
    lines: list[list[str]] = []
    for letter, each in zip("AB", (one, other), strict=True):
        cells = [f"{parts.swatch(LOOK[letter], dark)}<b>{letter}</b> {parts.text(each.name)}"]
        for key in shown:
            value = each.figures.get(key)
            cells.append(
                parts.percent(value) if "dead" in key or "loss" in key else parts.number(value)
            )
        score = each.column("monosemanticity")
        cells.append("–" if each.table is None else f"{each.table.n_units:,}")
        cells.append("–" if score is None else parts.number(float(np.median(score))))
        lines.append(cells)
    header = ["", *(FIGURES[key] for key in shown), "units measured", "median monosemanticity"]
    st.html(parts.rows(header, lines, numeric=range(1, len(header))))


def _match(one: Side, other: Side, found: list[sides.Way]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        way = st.segmented_control(
            "Matched by", found, default=found[0], key="by", bind="query-params", required=True,
            help="directions: cosine of decoder rows; strongest contexts: where units fire most",
        )  # fmt: skip
        threshold = st.segmented_control(
            "Counts as the same from", THRESHOLDS, default=0.7 if way == "directions" else 0.5,
            key=f"from-{way}", required=True, help="the cosine from which on units are shared",
        )  # fmt: skip
    try:
        pairs = sides.matched(one, other, cast(sides.Way, way))
    except InterpError as error:
        st.warning(str(error))
        return
    _summary(one, other, pairs, threshold)
    _focus(one, other, pairs, threshold)
    _table(one, other, pairs, threshold)


def _summary(one: Side, other: Side, pairs: Matching, threshold: float) -> None:
    lines: list[list[str]] = []
    for number, (letter, each) in enumerate(zip("AB", (one, other), strict=True)):
        kinds = pairs.kinds(threshold, number)
        dead = each.dead(len(kinds))
        counts = np.bincount(kinds, minlength=len(KINDS))
        chance = float((pairs.chance[number] >= threshold).mean())
        lines.append(
            [
                f"<b>{letter}</b>",
                *(f"{count:,} <span class='why'>{parts.percent(count / len(kinds))}</span>"
                  for count in counts.tolist()),
                f"{int(dead[kinds == MISSING].sum()):,}",
                parts.number(float(pairs.cosine[number].mean())),
                parts.number(float(pairs.chance[number].mean())),
                parts.percent(chance),
            ]
        )  # fmt: skip
    shared = int((pairs.kinds(threshold, 0) != MISSING).sum())
    st.markdown(
        f"**B has something like {shared:,} of A's {len(pairs.cosine[0]):,} units; "
        f"by chance it would be {int((pairs.chance[0] >= threshold).sum()):,}.**"
    )
    header = ["", *KINDS, "missing and dead", "mean cosine", "by chance", "shared by chance"]
    st.html(parts.rows(header, lines, numeric=range(1, len(header))))
    st.caption(
        "; ".join(f"**{kind}**: {words}" for kind, words in MEANING.items())
        + ". Chance: B turned by a random rotation, or its contexts shifted along the store."
    )


def _focus(one: Side, other: Side, pairs: Matching, threshold: float) -> None:
    """The unit one came from, beside what the other side has for it."""
    asked = st.query_params.get("unit")
    if not asked:
        return
    try:
        address = Address.parse(asked)
    except InterpError as error:
        st.warning(str(error))
        return
    stem = f"{address.model}/{address.site}/{address.basis}"
    if stem != one.name or address.index >= len(pairs.nearest[0]):
        return
    kind = KINDS[int(pairs.kinds(threshold)[address.index])]
    st.html(
        f"{parts.tag(kind)} <b>{parts.text(_called(one, address.index))}</b> of A: {MEANING[kind]}"
    )
    st.html(_lines(one, other, pairs, threshold, [address.index], 0))


def _table(one: Side, other: Side, pairs: Matching, threshold: float) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        letter = st.segmented_control(
            "Units of", ["A", "B"], default="A", key="of", bind="query-params", required=True
        )
        number = "AB".index(letter)
        kinds, cosine = pairs.kinds(threshold, number), pairs.cosine[number]
        first = KINDS[int(kinds.min(initial=MISSING))]
        kind = st.segmented_control(
            "Which are", KINDS, default=first, key="kind", bind="query-params", required=True
        )
        rows = np.flatnonzero(kinds == KINDS.index(kind))
        # Where the other has nothing, the units that are furthest from it come first.
        rows = rows[np.argsort(cosine[rows] if kind == "missing" else -cosine[rows], kind="stable")]
        page = st.pagination(max(-(-len(rows) // PAGE), 1), key="page", bind="query-params")
    if not len(rows):
        st.caption(f"No unit of {letter} is {kind}.")
        return
    shown = [int(row) for row in rows[(page - 1) * PAGE : page * PAGE]]
    pair = (one, other) if number == 0 else (other, one)
    st.html(_lines(*pair, pairs, threshold, shown, number))


def _lines(
    mine: Side, theirs: Side, pairs: Matching, threshold: float, units: list[int], side: int
) -> str:
    """Units with those of the other side that go with them, each a link."""
    lines: list[list[str]] = []
    for unit in units:
        cosine = float(pairs.cosine[side][unit])
        partners = pairs.partners(unit, threshold, side)[:6] if cosine > 0 else []
        links = ", ".join(_link(theirs, each) for each in partners)
        lines.append(
            [
                _link(mine, unit),
                parts.text(plain(mine.rule(unit), 90)),
                parts.number(cosine),
                links or "none",
                parts.text(plain(theirs.rule(partners[0]), 90)) if len(partners) else "",
            ]
        )
    header = ["unit", "fires on", "cosine", "of the other, nearest first", "fires on"]
    return parts.rows(header, lines, numeric=(2,))


def _called(side: Side, unit: int) -> str:
    noun = unit_noun(side.name.rpartition("/")[2])
    return f"{noun} {side.table.unit_name(unit) if side.table else unit}"


def _link(side: Side, unit: int) -> str:
    name = parts.text(_called(side, unit))
    if side.table is None:
        return name
    return f'<a href="unit?unit={quote(f"{side.name}/{unit}")}" target="_self">{name}</a>'


def _distributions(one: Side, other: Side) -> None:
    """One score's distribution on both sides."""
    tables = [each.table for each in (one, other) if each.table]
    if len(tables) < 2:
        st.caption("The scores of both can be set side by side once both are measured.")
        return
    common = [name for name in scores.choices(tables[0].columns) if name in tables[1].columns]
    score = st.selectbox("Score", common, key="score", bind="query-params", width=260)
    control = f"{score}_control"
    matched = all(control in table.columns for table in tables) and st.toggle(
        "Density-matched", value=True, key="matched", bind="query-params",
        help="compare each unit with random directions that are active as often",
    )  # fmt: skip
    name = control if matched else score
    found = {letter: each.column(name) for letter, each in zip("AB", (one, other), strict=True)}
    values = {letter: column for letter, column in found.items() if column is not None}
    if not values:
        st.caption(f"Neither has {score}.")
        return
    medians = ", ".join(f"{letter} {np.median(column):.3f}" for letter, column in values.items())
    label = f"share of controls with lower {score}" if matched else score
    dark = st.context.theme.type == "dark"
    spec = charts.ecdf(values, LOOK, label=label, dark=dark, diagonal=matched)
    st.echarts_chart(
        spec, height=320, key="ecdf", alt=f"Cumulative distribution of {label}; medians: {medians}"
    )
    st.caption(f"Medians: {medians}. {overview.BAND}")
