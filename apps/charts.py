"""The charts, as ECharts options: data in, one dictionary out, no Streamlit.

Points are sent as a data frame (Arrow), so that a chart of 20,000 units is a quarter megabyte.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from apps.theme import Mark

CHANCE = "chance"
MOST_POINTS = 20_000
"""More units than this are drawn as a seeded random sample, and the caption says so."""

_WORDS = {False: "#5f656d", True: "#a0a6af"}
"""Colour of words, on light and on dark pages, as ``--quiet`` of the stylesheet."""
_GRID = {"left": 6, "right": 10, "top": 34, "bottom": 4}


def sample(rows: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """At most ``most`` of the rows, the same ones every time, in order."""
    if len(rows) <= most:
        return rows
    chosen = np.random.default_rng(0).choice(len(rows), size=most, replace=False)
    return rows[np.sort(chosen)]


def scatter(
    frames: Mapping[str, pd.DataFrame],
    marks: Mapping[str, Mark],
    *,
    x: tuple[str, str],
    y: tuple[str, str],
    dark: bool,
) -> dict[str, Any]:
    """Units as points, one series a basis.

    Args:
        frames: per basis, columns ``unit`` and those of ``x`` and ``y``.
        marks: colour and shape per basis.
        x: column and label of the horizontal axis, which is logarithmic.
        y: column and label of the vertical axis.
        dark: whether the page is dark.
    """
    series = [
        {
            "type": "scatter",
            "name": basis,
            "datasetIndex": number,
            "encode": {"x": x[0], "y": y[0], "tooltip": ["unit", x[0], y[0]]},
            "symbol": marks[basis].symbol,
            "symbolSize": 7 if len(frame) < 3000 else 5,
            "itemStyle": {"color": marks[basis].colour(dark), "opacity": 0.62},
            "selectedMode": "single",
            "select": {"itemStyle": {"opacity": 1, "borderColor": "#888", "borderWidth": 2}},
            "emphasis": {"scale": 1.6},
        }
        for number, (basis, frame) in enumerate(frames.items())
    ]
    spec: dict[str, Any] = {
        "animation": False,
        "grid": _GRID,
        "legend": {"top": 0, "left": 0, "itemWidth": 10, "itemHeight": 10},
        # Dragging a rectangle asks for the units within it.
        "brush": {
            "toolbox": ["rect", "clear"],
            "xAxisIndex": 0,
            "yAxisIndex": 0,
            "throttleType": "debounce",
            "throttleDelay": 300,
        },
        "toolbox": {"top": 0, "right": 8, "itemSize": 14},
        "tooltip": {
            "trigger": "item",
            "formatter": f"{{a}} {{@unit}}<br>{y[1]} {{@{y[0]}}}<br>{x[1]} {{@{x[0]}}}",
        },
        "dataset": [{"source": frame} for frame in frames.values()],
        "xAxis": {"type": "log", "name": x[1], "max": 1, **_axis()},
        "yAxis": {"type": "value", "name": y[1], "scale": True, **_axis(40)},
        "series": series,
    }
    return legible(spec, dark)


def ecdf(
    values: Mapping[str, np.ndarray],
    marks: Mapping[str, Mark],
    *,
    label: str,
    dark: bool,
    diagonal: bool = False,
) -> dict[str, Any]:
    """Per basis, the share of units whose value is at most x, at 201 quantiles, with a band.

    The band holds the whole curve of all units of that kind with 95 % confidence: ± √(ln(2/0.05) /
    2n), the inequality of Dvoretzky, Kiefer and Wolfowitz with Massart's constant (Massart 1990,
    Annals of Probability 18). It takes units as independent draws.

    Args:
        values: finite values per basis.
        marks: colour and shape per basis.
        label: of the horizontal axis.
        dark: whether the page is dark.
        diagonal: draw the line on which values spread evenly over 0 to 1 lie.
    """
    share = np.linspace(0, 1, 201)
    series: list[dict[str, Any]] = []
    named: list[str] = []
    for number, (basis, found) in enumerate(values.items()):
        points = np.stack([np.quantile(found, share), share], axis=1)
        series += _band(points, len(found), f"band-{basis}", marks[basis].colour(dark))
        named.append(f"{basis} ({len(found):,})")
        series.append(
            {
                "type": "line",
                "name": f"{basis} ({len(found):,})",
                "data": points.round(4).tolist(),
                "showSymbol": False,
                "itemStyle": {"color": marks[basis].colour(dark)},
                "lineStyle": {"width": 2, "type": ["solid", "dashed", "dotted"][number % 3]},
            }
        )
    if diagonal:
        series.append(
            {
                "type": "line",
                "name": CHANCE,
                "data": [[0, 0], [1, 1]],
                "showSymbol": False,
                "silent": True,
                "itemStyle": {"color": "#888"},
                "lineStyle": {"width": 1, "color": "#888"},
            }
        )
    spec: dict[str, Any] = {
        "animation": False,
        "grid": _GRID,
        "legend": {
            "top": 0,
            "left": 0,
            "itemWidth": 22,
            "itemHeight": 8,
            "type": "scroll",
            "data": [*named, *([CHANCE] if diagonal else [])],
        },
        "tooltip": {"trigger": "item"},
        "xAxis": {"type": "value", "name": label, "scale": True, **_axis()},
        "yAxis": {"type": "value", "min": 0, "max": 1, "name": "share of units", **_axis(44)},
        "series": series,
    }
    return legible(spec, dark)


def _band(points: np.ndarray, count: int, name: str, colour: str) -> list[dict[str, Any]]:
    """The area within which the whole curve lies: an unseen lower line and what stands on it."""
    half = math.sqrt(math.log(2 / 0.05) / (2 * count))
    low = np.clip(points[:, 1] - half, 0, 1)
    height = np.clip(points[:, 1] + half, 0, 1) - low
    hidden = {
        "type": "line",
        "stack": name,
        "showSymbol": False,
        "silent": True,
        "lineStyle": {"opacity": 0},
        "itemStyle": {"color": colour},
        "tooltip": {"show": False},
    }
    return [
        {
            **hidden,
            "name": f"{name}-{part}",
            "data": np.stack([points[:, 0], values], axis=1).round(4).tolist(),
            **extra,
        }
        for part, values, extra in (
            ("low", low, {}),
            ("height", height, {"areaStyle": {"color": colour, "opacity": 0.16}}),
        )
    ]


def histogram(
    counts: np.ndarray, edges: np.ndarray, colour: str, *, dark: bool = False
) -> dict[str, Any]:
    """Counts on a logarithmic axis over bins that grow by powers of two; empty ends left out."""
    present = np.flatnonzero(np.asarray(counts))
    if not len(present):
        return {}
    bins = range(int(present[0]), int(present[-1]) + 1)
    spec: dict[str, Any] = {
        "animation": False,
        "grid": {**_GRID, "top": 10},
        "tooltip": {"trigger": "axis", "axisPointer": {"type": "shadow"}},
        "xAxis": {
            "type": "category",
            "data": [f"{edges[b]:.2g}" for b in bins],
            "name": "activation, from",
            **_axis(),
            "axisLabel": {"hideOverlap": True},
        },
        "yAxis": {"type": "log", "min": 0.8, "name": "tokens (log)", **_axis(44)},
        "series": [
            {
                "type": "bar",
                "name": "tokens",
                "data": [int(counts[b]) or None for b in bins],
                "barCategoryGap": "12%",
                "itemStyle": {"color": colour, "opacity": 0.85},
            }
        ],
    }
    return legible(spec, dark)


def legible(spec: dict[str, Any], dark: bool) -> dict[str, Any]:
    """The same chart with its words in a colour of enough contrast to the page."""
    colour = {"color": _WORDS[dark]}
    axes = {
        name: {
            **spec[name],
            "nameTextStyle": colour,
            "axisLabel": {**spec[name].get("axisLabel", {}), **colour},
        }
        for name in ("xAxis", "yAxis")
    }
    legend = {"legend": {**spec["legend"], "textStyle": colour}} if "legend" in spec else {}
    return {**spec, **axes, **legend}


def _axis(gap: int = 26) -> dict[str, Any]:
    return {
        "nameLocation": "middle",
        "nameGap": gap,
        "splitLine": {"lineStyle": {"opacity": 0.3}},
    }
