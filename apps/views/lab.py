"""Lab: published results as they were reproduced here, expected beside measured, with figures."""

import json
from typing import Any

import streamlit as st

from apps import _cache, parts, series
from apps.inventory import Item
from apps.navigation import link
from apps.series import Axis
from interp.workspace import Workspace


def show() -> None:
    """Draw the page."""
    items = _cache.lab(Workspace.at())
    if not items:
        st.title("Lab", anchor=False)
        st.info("No result here yet. `interp lab run pentagon` reproduces one; also: lab list.")
        link("home", "What the workspace holds", ":material/home:")
        return
    st.title("Lab", anchor=False)
    st.html(
        '<p class="lede">Published results where the truth is known. Each quantity passes when its '
        "mean over the seeds lies in the accepted range, which was fixed before measuring; under a "
        "failure stands what is known of its reason.</p>"
    )
    st.html(table(items))
    ready = [item.name for item in items if item.state == "ready"]
    if not ready:
        return
    asked = st.query_params.get("result")
    if asked is not None and asked not in ready:
        st.warning(f"No readable result {asked!r} in this workspace; showing {ready[0]}.")
    name = st.selectbox("Result", ready, key="result", bind="query-params", width=320)
    _draw(next(item for item in items if item.name == name))


def table(items: list[Item]) -> str:
    """One line a quantity: expected, accepted, measured, verdict."""
    lines: list[list[str]] = []
    for item in items:
        if item.state != "ready":
            cells = [parts.text(item.name), *[""] * 6]
            lines.append([*cells, parts.state(item.state, item.note)])
            continue
        name = parts.text(item.name)
        measured = [*item.facts["checks"], *item.facts["reported"]]
        for number, each in enumerate(measured):
            lines.append([name if number == 0 else "", *_cells(each, item.facts["effort"])])
    header = ["result", "quantity", "expected", "accepted", "measured", "spread", "seeds", ""]
    return parts.rows(header, lines, numeric=(2, 3, 4, 5, 6))


def _cells(each: dict[str, Any], effort: str) -> list[str]:
    judged = "passed" in each
    why = f'<div class="why">{parts.text(each["why"])}</div>' if judged and each["why"] else ""
    return [
        parts.text(each["quantity"]) + why,
        parts.number(each["expected"], 4) if judged else "",
        _range(each["low"], each["high"]) if judged else "",
        parts.number(each["mean"], 4),
        parts.number(each["spread"], 2),
        str(len(each["values"])),
        f"{_verdict(each)} {parts.tag(effort)}",
    ]


def _verdict(each: dict[str, Any]) -> str:
    if "passed" not in each:
        return parts.tag("reported")
    return parts.tag("pass", "good") if each["passed"] else parts.tag(_failed(each), "bad")


def _failed(check: dict[str, Any]) -> str:
    below = check["low"] is not None and check["mean"] < check["low"]
    return "FAIL, below" if below else "FAIL, above"


def _range(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {parts.number(high, 4)}"
    if high is None:
        return f"at least {parts.number(low, 4)}"
    return f"{parts.number(low, 4)} to {parts.number(high, 4)}"


def _draw(item: Item) -> None:
    facts = item.facts
    dark = st.context.theme.type == "dark"
    st.subheader(item.name, anchor=False)
    st.html(f'<p class="lede">{parts.text(facts["claim"])} <i>{parts.text(facts["paper"])}</i></p>')
    figures: list[dict[str, Any]] = facts["figures"]
    if not figures:
        st.caption("This result has no figure.")
    columns = st.columns(2 if len(figures) > 1 else [2, 1])
    for place, figure in enumerate(figures):
        with columns[place % 2 if len(figures) > 1 else 0]:
            _figure(figure, f"figure-{item.name}-{place}", dark)
    notes: dict[str, str] = facts["notes"]
    for heading, note in notes.items():
        st.markdown(f"**{parts.literal(heading)}**")
        st.code(note, language=None, wrap_lines=True)
    if figures:
        st.caption("Figures and texts are of the first seed.")
    st.html(parts.provenance(facts["provenance"], {"effort": facts["effort"]}))
    with st.expander("Settings"):
        st.code(json.dumps(facts["setting"], indent=1), language="json")
        flag = " --full" if facts["effort"] == "full" else ""
        st.code(f"interp lab run {item.name}{flag}", language="bash")


def _figure(figure: dict[str, Any], key: str, dark: bool) -> None:
    found: dict[str, list[list[float]]] = figure["series"]
    st.markdown(f"**{parts.literal(figure['title'])}**")
    spans: list[tuple[float, float] | None] = [None, None, None]
    if figure["slider"] and len(found) > 1:
        # What is slid through keeps its axes and colours, so that frames can be compared.
        every = [point for points in found.values() for point in points]
        if every:
            spans = [
                None if axis in figure["log"] else series.spanned(every, place)
                for place, axis in zip(range(len(every[0])), "xyz", strict=False)
            ]
        name = st.select_slider(figure["slider"], list(found), key=f"{key}-slider")
        found = {name: found[name]}
    x = Axis(name=figure["x"], log="x" in figure["log"], span=spans[0])
    y = Axis(name=figure["y"], log="y" in figure["log"], gap=48, span=spans[1])
    if figure["kind"] != "heatmap":
        spec = series.drawn(
            found, kind=figure["kind"], x=x, y=y, dark=dark, legend=not figure["slider"]
        )
        alt = f"{figure['y']} against {figure['x']}: {', '.join(found)}"
        st.echarts_chart(spec, height=320, key=key, alt=alt)
        return
    x, y = (Axis(name=axis.name, log=axis.log, gap=axis.gap) for axis in (x, y))
    for name, cells in found.items():
        if cells:
            if not figure["slider"]:
                st.caption(parts.literal(name))
            alt = f"{name}: {len(cells)} cells over {figure['x']} and {figure['y']}"
            spec = series.heatmap(cells, x=x, y=y, dark=dark, span=spans[2])
            place = key if figure["slider"] else f"{key}-{name}"
            st.echarts_chart(spec, height=320, key=place, alt=alt)
