"""The lab's page: what was written is shown, passed or failed, and damage has its own state."""

import json

import pytest

from apps import inventory, series
from apps.series import Axis
from tests.apps.conftest import shown
from tests.apps.workspace import write_result


def test_lab_lists_expected_beside_measured(own, show):
    write_result(own, "failing", measured=0.5)
    at = show("lab", result="pentagon")
    page = shown(at)
    assert "0.39 to 0.41" in page
    assert "at least 0.9" in page
    assert "0.401" in page
    assert page.count("FAIL, above") == 1
    assert page.count(">pass<") == 3
    assert page.count("Too &lt;few&gt; steps.") == 1  # under what failed, not under what passed
    assert page.count(">reported<") == 2
    assert "hit rate" in page
    assert "0.375" in page
    assert "Five features form a pentagon." in page
    assert "interp lab run pentagon" in page
    assert "<b>W</b>" not in page
    assert [each.value for each in at.code][0] == "zq <i>xk</i>\nROMEO."
    assert len(charts(at)) == 4


def charts(at) -> list[str]:
    return [str(each.proto) for each in at.get("echarts_chart") or at.get("echarts")]


def test_a_slider_runs_through_a_figures_frames_under_the_same_colours(own, show):
    write_result(own, "sliding")
    at = show("lab", result="sliding")
    (slider,) = at.select_slider
    assert (slider.label, slider.options) == ("density", ["1", "0.1"])
    first = charts(at)
    slider.set_value("0.1").run()
    assert not at.exception
    second = charts(at)
    assert first[:3] == second[:3]
    assert first[3] != second[3]
    assert [each.value for each in at.select_slider] == ["0.1"]


def test_a_span_fixes_axes_and_colours():
    axis = Axis(name="x", span=(-1.0, 2.0)).option()
    assert (axis["min"], axis["max"]) == (-1.0, 2.0)
    assert "min" not in Axis(name="x").option()
    x, y = Axis(name="x"), Axis(name="y")
    cells = [(0.0, 0.0, 5.0)]
    for span, ends in (((-3.0, 9.0), (-3.0, 9.0)), (None, (5.0, 5.0))):
        shown = series.heatmap(cells, x=x, y=y, dark=False, span=span)["visualMap"]
        assert (shown["min"], shown["max"]) == ends


def test_ends_are_rounded_outward():
    assert series.spanned([(1.7e-5,), (0.37991822,)], 0) == (0.0, 0.38)
    assert series.spanned([(1.0,), (29.0,)], 0) == (1.0, 29.0)
    assert series.spanned([(-3.14159, 2.0), (1234.5, 2.0)], 0) == (-10.0, 1240.0)
    assert series.spanned([(5.0,)], 0) == (5.0, 5.0)


def test_lab_answers_an_unknown_result(full, show):
    assert "No readable result 'nothing'" in shown(show("lab", result="nothing"))


def test_lab_without_results(workspace, show):
    assert "No result here yet" in shown(show("lab"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 9}, "another version"),
        ({"checks": [{}]}, "quantity"),
        ({"figures": [{"kind": "pie"}]}, "is not known"),
        ({"figures": 3}, "not iterable"),
        ({"notes": 3}, "items"),
    ],
)
def test_damaged_results_have_their_own_state(own, show, change, words):
    path = write_result(own, "odd")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    found = {item.name: item for item in inventory.lab(own)}
    assert found["odd"].state == "unreadable"
    assert words in found["odd"].note
    assert found["pentagon"].state == "ready"
    for page in (show("lab"), show()):
        assert "unreadable" in shown(page)


def test_a_result_that_is_not_there_yet(own, show):
    (own.root / "lab" / "begun").mkdir()
    for page in (show("lab"), show()):
        assert "its run has not ended" in shown(page)


def test_home_counts_the_checks_that_passed(own, show):
    write_result(own, "failing", measured=0.5)
    page = shown(show())
    assert "1 of 2" in page
    assert "2 of 2" in page
    assert 'href="lab?result=pentagon"' in page


def test_lines_leave_out_what_a_logarithmic_axis_cannot_show():
    spec = series.drawn(
        {"a": [(1, 10.0), (2, 0.0), (3, 0.1)], "b": []},
        kind="line",
        x=Axis(name="step"),
        y=Axis(name="loss", log=True),
        dark=False,
    )
    assert spec["series"][0]["data"] == [[1, 10], [3, 0.1]]
    assert spec["yAxis"]["type"] == "log"
    json.dumps(spec, allow_nan=False)


def test_the_first_twelve_series_look_different():
    for dark in (False, True):
        assert len({series.look(number, dark)[:2] for number in range(12)}) == 12
        assert len({series.look(number, dark)[0::2] for number in range(12)}) == 12


def test_heatmap_cells_stand_at_their_values():
    spec = series.heatmap(
        [(0.2, 1.0, 5.0), (0.1, 2.0, 7.0)],
        x=Axis(name="density"), y=Axis(name="importance"), dark=True,
    )  # fmt: skip
    assert spec["xAxis"]["axisLabel"]["color"] == "#a0a6af"
    assert spec["xAxis"]["data"] == ["0.1", "0.2"]
    assert spec["yAxis"]["data"] == ["1", "2"]
    assert spec["series"][0]["data"] == [[1, 0, 5.0], [0, 1, 7.0]]
    assert (spec["visualMap"]["min"], spec["visualMap"]["max"]) == (5, 7)
