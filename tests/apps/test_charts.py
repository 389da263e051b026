"""Chart options: what is drawn is what was measured, and it is JSON."""

import json

import numpy as np
import pandas as pd
import pytest

from apps import charts, theme

MARKS = theme.marks(["neurons", "random", "topk-8-k2-s0"])


def test_bases_differ_in_colour_and_shape():
    for dark in (False, True):
        assert len({mark.colour(dark) for mark in MARKS.values()}) == 3
    assert len({mark.symbol for mark in MARKS.values()}) == 3
    assert MARKS["neurons"] is theme.NEURONS
    assert MARKS["random"] is theme.CONTROL


def test_sample_is_seeded_ordered_and_bounded():
    rows = np.arange(100_000)
    first, again = charts.sample(rows), charts.sample(rows)
    assert len(first) == charts.MOST_POINTS
    assert (first == again).all()
    assert (np.diff(first) > 0).all()
    assert charts.sample(rows[:10]) is not None
    assert len(charts.sample(rows[:10])) == 10


def test_the_band_of_an_ecdf_is_that_of_massart():
    spec = charts.ecdf({"neurons": np.arange(1000.0)}, MARKS, label="score", dark=False)
    low, height, line = (np.array(each["data"]) for each in spec["series"])
    # 1.3581 / √n: the asymptotic 95 % point of Kolmogorov's statistic, from his tables
    assert line[100, 1] - low[100, 1] == pytest.approx(1.3581 / np.sqrt(1000), abs=2e-4)
    assert height[100, 1] == pytest.approx(2 * 1.3581 / np.sqrt(1000), abs=2e-4)
    assert low[0, 1] == 0
    assert (low[:, 1] + height[:, 1]).max() <= 1
    assert spec["series"][0]["stack"] == spec["series"][1]["stack"]


def test_ecdf_runs_through_the_quantiles():
    values = {"neurons": np.arange(101.0), "random": np.array([3.0])}
    spec = charts.ecdf(values, MARKS, label="score", dark=False)
    line = next(each for each in spec["series"] if each["name"] == "neurons (101)")
    points = dict((y, x) for x, y in line["data"])
    assert points[0.5] == 50
    assert points[0.25] == 25
    assert points[1.0] == 100
    assert spec["legend"]["data"] == ["neurons (101)", "random (1)"]
    json.dumps(spec, allow_nan=False)


def test_histogram_leaves_empty_ends_out_and_counts_in():
    counts = np.array([0, 0, 5, 0, 7, 0])
    edges = 2.0 ** np.arange(7)
    spec = charts.histogram(counts, edges, "#000")
    assert spec["series"][0]["data"] == [5, None, 7]
    assert spec["xAxis"]["data"] == ["4", "8", "16"]
    json.dumps(spec, allow_nan=False)
    assert charts.histogram(np.zeros(6, int), edges, "#000") == {}


def test_scatter_has_one_series_a_basis():
    frame = pd.DataFrame({"unit": [0, 1], "density": [0.1, 0.2], "score": [1.0, 2.0]})
    spec = charts.scatter(
        {"neurons": frame, "random": frame},
        MARKS,
        x=("density", "density"),
        y=("score", "z"),
        dark=True,
    )
    assert [one["name"] for one in spec["series"]] == ["neurons", "random"]
    assert spec["series"][0]["symbol"] != spec["series"][1]["symbol"]
    assert spec["dataset"][0]["source"] is frame
