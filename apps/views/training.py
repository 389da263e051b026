"""Training: curves of finished and running trainings, and what all dictionaries of a site reach."""

import math
from collections.abc import Mapping

import streamlit as st

from apps import _cache, parts, series, underway
from apps.inventory import Item
from apps.navigation import link
from apps.runs import QUANTITIES, Curve, Run
from apps.series import Axis
from interp.workspace import Workspace

AT_ONCE = 6
"""Dictionaries drawn unless others are chosen."""


def show() -> None:
    """Draw the page."""
    workspace = Workspace.at()
    found = _cache.runs(workspace)
    if not found:
        st.title("Training", anchor=False)
        st.info("No dictionary here yet. `interp train STORE SITE` trains one.")
        link("home", "What the workspace holds", ":material/home:")
        return
    site = _site(sorted({run.site for run in found}))
    mine = [run for run in found if run.site == site]
    names = [run.dictionary for run in mine]
    chosen = st.pills(
        "Dictionaries",
        names,
        selection_mode="multi",
        default=names[:AT_ONCE],
        key="dictionary",
        bind="query-params",
    )
    st.fragment(_draw, run_every=underway.every(mine))(workspace, site, tuple(chosen))


def _site(places: list[str]) -> str:
    asked = st.query_params.get("site")
    if asked is not None and asked not in places:
        st.warning(f"No dictionary of site {asked!r} in this workspace; showing {places[0]}.")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title("Training", anchor=False, width="content")
        return st.selectbox(
            "Site",
            places,
            key="site",
            bind="query-params",
            width=420,
            label_visibility="collapsed",
        )


def _draw(workspace: Workspace, site: str, chosen: tuple[str, ...]) -> None:
    mine = [run for run in _cache.runs(workspace) if run.site == site]
    numbers = {run.dictionary: number for number, run in enumerate(mine)}
    underway.bars(mine)
    dark = st.context.theme.type == "dark"
    shown = [run for run in mine if run.dictionary in chosen]
    _curves(shown, numbers, dark)
    items = [item for item in _cache.dictionaries(workspace) if item.name.startswith(f"{site}/")]
    st.subheader("What the dictionaries of this site reach", anchor=False)
    _pareto(items, numbers, dark)


def _curves(shown: list[Run], numbers: dict[str, int], dark: bool) -> None:
    if not any(run.train or run.heldout for run in shown):
        st.info("Nothing is logged of the chosen dictionaries.")
        return
    st.html(
        '<div class="prov">'
        + " ".join(_key(run, numbers[run.dictionary], dark) for run in shown)
        + " · lines: training batches · points: held-out rows</div>"
    )
    st.caption(
        "Dead: on lines, latents that have not fired for long in training; on points, latents "
        "silent on all held-out rows."
    )
    columns = st.columns(2)
    for place, quantity in enumerate(QUANTITIES):
        lines = {run.dictionary: _points(run.train, quantity) for run in shown}
        points = {run.dictionary: _points(run.heldout, quantity) for run in shown}
        last = ", ".join(f"{name} {found[-1][1]:.4g}" for name, found in lines.items() if found)
        with columns[place % 2]:
            st.echarts_chart(
                series.drawn(
                    lines,
                    kind="line",
                    x=Axis(name="training tokens"),
                    y=Axis(name=quantity, log=_wide(lines), gap=48),
                    dark=dark,
                    numbers=numbers,
                    points=points,
                    legend=False,
                ),
                height=240,
                key=f"curve-{quantity}",
                alt=f"{quantity} over training tokens; last: {last}",
            )


def _wide(lines: Mapping[str, series.Points]) -> bool:
    """Whether values span so much that only a logarithmic axis shows them all."""
    values = [point[1] for found in lines.values() for point in found]
    return bool(values) and min(values) > 0 and max(values) > 30 * min(values)


def _key(run: Run, number: int, dark: bool) -> str:
    colour, dash, _ = series.look(number, dark)
    return (
        f'<span class="line" style="border-top: 2px {dash} {colour}"></span>'
        f"<b>{parts.text(run.dictionary)}</b>"
    )


def _points(curves: dict[str, Curve], quantity: str) -> list[list[float]]:
    curve = curves.get(quantity)
    if curve is None:
        return []
    return [list(pair) for pair in zip(curve.tokens.tolist(), curve.values.tolist(), strict=True)]


def _pareto(items: list[Item], numbers: dict[str, int], dark: bool) -> None:
    """Held-out FVE against L0: further left and up is better."""
    measured = {
        item.name.rpartition("/")[2]: (float(item.facts["l0"]), float(item.facts["fve"]))
        for item in items
        if _figure(item, "l0") and _figure(item, "fve")
    }
    left, right = st.columns([3, 2])
    if measured:
        front = _front(list(measured.values()))
        spec = series.drawn(
            {name: [point] for name, point in measured.items()},
            kind="scatter",
            x=Axis(name="L0, active latents a token"),
            y=Axis(name="held-out FVE", gap=48),
            dark=dark,
            numbers=numbers,
        )
        # A lone point, or equal ones, would stretch the axes to nothing.
        l0s, fves = zip(*measured.values(), strict=True)
        spec["xAxis"] |= {"min": math.floor(0.9 * min(l0s)), "max": math.ceil(1.1 * max(l0s))}
        spec["yAxis"] |= {"min": round(min(fves) - 0.02, 2), "max": round(max(fves) + 0.02, 2)}
        spec["series"].append(
            {
                "type": "line",
                "name": "unbeaten",
                "data": [list(point) for point in front],
                "showSymbol": False,
                "lineStyle": {"color": "#888", "width": 1, "type": "dashed"},
                "itemStyle": {"color": "#888"},
            }
        )
        best = ", ".join(f"FVE {fve:.3f} at L0 {l0:.1f}" for l0, fve in front)
        with left:
            st.echarts_chart(
                spec, height=320, key="pareto", alt=f"Held-out FVE against L0; best: {best}"
            )
            st.caption("Measured on held-out rows. Grey: dictionaries that no other one beats.")
    with right:
        st.html(
            parts.rows(
                ["dictionary", "L0", "FVE", "dead", "loss recovered", "state"],
                (
                    [
                        parts.text(item.name.rpartition("/")[2]),
                        parts.number(item.facts.get("l0")),
                        parts.number(item.facts.get("fve")),
                        parts.percent(item.facts.get("dead_fraction")),
                        parts.percent(item.facts.get("loss_recovered")),
                        parts.state(item.state, ""),
                    ]
                    for item in items
                ),
                numeric=(1, 2, 3, 4),
            )
        )


def _figure(item: Item, name: str) -> bool:
    value = item.facts.get(name)
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def _front(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other point beats: fewer active latents and more explained."""
    best: list[tuple[float, float]] = []
    for l0, fve in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or fve > best[-1][1]:
            best.append((l0, fve))
    return best
