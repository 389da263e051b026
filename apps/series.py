"""Charts of named series: lines, points and heat maps, as ECharts options without Streamlit."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from apps.charts import legible
from apps.theme import DICTIONARIES

DASHES = ("solid", "dashed", "dotted")
_COLOURS = len(DICTIONARIES)
CIVIDIS = ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369",
           "#e1cc55", "#fee838")  # fmt: skip
"""Sequential colours that colour-blind readers can order."""
_SYMBOLS = ("circle", "rect", "triangle", "diamond", "pin")


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis."""

    name: str
    log: bool = False
    gap: int = 26
    span: tuple[float, float] | None = None
    """Its ends, where they must not follow the data."""

    def option(self) -> dict[str, Any]:
        """As ECharts wants it."""
        return {
            "type": "log" if self.log else "value",
            "name": self.name,
            "scale": True,
            **({} if self.span is None else {"min": self.span[0], "max": self.span[1]}),
            "nameLocation": "middle",
            "nameGap": self.gap,
            "splitLine": {"lineStyle": {"opacity": 0.3}},
        }


Points = Sequence[Sequence[float]]


def look(number: int, dark: bool) -> tuple[str, str, str]:
    """Colour, dash and symbol of one of many series: no two of the first twelve are alike."""
    mark = DICTIONARIES[number % _COLOURS]
    return (
        mark.colour(dark),
        DASHES[number // _COLOURS % len(DASHES)],
        _SYMBOLS[(number + 2 * (number // _COLOURS)) % len(_SYMBOLS)],
    )


def drawn(
    series: Mapping[str, Points],
    *,
    kind: Literal["line", "scatter"],
    x: Axis,
    y: Axis,
    dark: bool,
    numbers: Mapping[str, int] | None = None,
    points: Mapping[str, Points] | None = None,
    legend: bool = True,
) -> dict[str, Any]:
    """Series of points ``(x, y)``, joined or not.

    Args:
        series: points by name. What a logarithmic axis cannot show is left out.
        kind: joined in their order, or alone.
        x: the horizontal axis.
        y: the vertical axis.
        dark: whether the page is dark.
        numbers: which look each series has; by default one after the other.
        points: drawn unjoined on top in the same look, such as held-out figures on a curve.
        legend: whether the series are named above the chart.
    """
    options: list[dict[str, Any]] = []
    for at, (name, found) in enumerate(series.items()):
        colour, dash, symbol = look(at if numbers is None else numbers[name], dark)
        options.append(
            {
                "type": kind,
                "name": name,
                "data": _shown(found, x, y),
                "symbol": symbol,
                "symbolSize": 9 if kind == "scatter" else 5,
                "showSymbol": len(found) < 30,
                "itemStyle": {"color": colour, "opacity": 0.85},
                "lineStyle": {"width": 2, "type": dash},
            }
        )
        if points and name in points:
            options.append(
                {
                    "type": "scatter",
                    "name": name,
                    "data": _shown(points[name], x, y),
                    "symbol": symbol,
                    "symbolSize": 9,
                    "itemStyle": {"color": colour, "borderColor": "#888", "borderWidth": 1},
                }
            )
    spec: dict[str, Any] = {
        "animation": False,
        "grid": {"left": 6, "right": 14, "top": 34 if legend else 12, "bottom": 4},
        "legend": {"show": legend, "top": 0, "left": 0, "type": "scroll"},
        "tooltip": {"trigger": "axis" if kind == "line" else "item"},
        "xAxis": x.option(),
        "yAxis": y.option(),
        "series": options,
    }
    return legible(spec, dark)


def spanned(points: Iterable[Sequence[float]], place: int) -> tuple[float, float]:
    """Ends between which the points' numbers at one place lie, rounded to a hundredth of that."""
    found = [point[place] for point in points]
    least, greatest = min(found), max(found)
    if least == greatest:
        return least, greatest
    digits = 2 - math.floor(math.log10(greatest - least))
    step = 10.0**-digits
    return (
        round(math.floor(least / step) * step, digits),
        round(math.ceil(greatest / step) * step, digits),
    )


def heatmap(
    cells: Points, *, x: Axis, y: Axis, dark: bool, span: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Cells ``(x, y, value)``, one column and row for each x and y that occurs.

    Args:
        cells: their places and values.
        x: the horizontal axis.
        y: the vertical axis.
        dark: whether the page is dark.
        span: the values at the ends of the colours; by default the least and the greatest.
    """
    across = sorted({cell[0] for cell in cells})
    up = sorted({cell[1] for cell in cells})
    least, greatest = span or spanned(cells, 2)
    spec: dict[str, Any] = {
        "animation": False,
        "grid": {"left": 6, "right": 80, "top": 10, "bottom": 4},
        "tooltip": {"position": "top"},
        "xAxis": {**x.option(), "type": "category", "data": [f"{value:.4g}" for value in across]},
        "yAxis": {**y.option(), "type": "category", "data": [f"{value:.4g}" for value in up]},
        "visualMap": {
            "min": least,
            "max": greatest,
            "calculable": True,
            "orient": "vertical",
            "right": 0,
            "top": "middle",
            "inRange": {"color": list(CIVIDIS)},
        },
        "series": [
            {
                "type": "heatmap",
                "data": [[across.index(a), up.index(b), value] for a, b, value in cells],
            }
        ],
    }
    return legible(spec, dark)


def _shown(found: Points, x: Axis, y: Axis) -> list[list[float]]:
    return [
        [float(f"{value:.6g}") for value in point[:2]]
        for point in found
        if not (x.log and point[0] <= 0) and not (y.log and point[1] <= 0)
    ]
