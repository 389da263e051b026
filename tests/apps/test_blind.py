"""Blind rating: a fair seeded draw, nothing that gives a unit away, nothing lost."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from apps import blind
from apps.blind import Rating
from interp.errors import ConfigError, ResourceError
from interp.features.table import UnitTable
from tests.apps.conftest import shown
from tests.apps.workspace import LATENTS, MODEL, SITE

PLACE = f"{MODEL}/{SITE}"
TIME = "2026-01-0{}T00:00:00.000000+00:00"


def rating(basis="neurons", unit=0, value=3, day=1, **more):
    return Rating(basis=basis, unit=unit, time=TIME.format(day), rating=value, **more)


def test_a_draw_is_seeded_matched_in_density_and_leaves_the_dead_out():
    rng = np.random.default_rng(0)
    densities = {
        "neurons": 10 ** rng.normal(-1.5, 0.6, 3000),
        "topk": 10 ** rng.normal(-2.5, 0.6, 3000),
    }
    for values in densities.values():
        values[:100] = 0
    found = blind.draw(densities, 40, 7)
    drawn = found.units
    assert found.matched
    assert found == blind.draw(densities, 40, 7)
    assert drawn != blind.draw(densities, 40, 8).units
    assert len(set(drawn)) == len(drawn) == 80
    logs = {
        name: np.log10([densities[name][unit] for basis, unit in drawn if basis == name])
        for name in densities
    }
    assert len(logs["neurons"]) == len(logs["topk"]) == 40
    assert all(unit >= 100 for _, unit in drawn)
    # undrawn, their mean log densities are a whole decade apart
    assert abs(logs["neurons"].mean() - logs["topk"].mean()) < 0.25
    first = [basis for basis, _ in drawn[:40]]
    assert 8 < first.count("topk") < 32  # mixed, not one basis after the other


def test_bases_without_like_density_are_drawn_at_random_and_said_to_be():
    densities = {"neurons": np.full(30, 0.5), "topk": np.full(9, 1e-4)}
    found = blind.draw(densities, 20, 0)
    assert not found.matched
    assert sorted(unit for basis, unit in found.units if basis == "topk") == list(range(9))
    assert len({unit for basis, unit in found.units if basis == "neurons"}) == 20


@pytest.mark.parametrize(
    ("densities", "words"),
    [
        ({"neurons": np.ones(3)}, "at least two"),
        ({"neurons": np.ones(3), "topk": np.zeros(3)}, "no live unit"),
    ],
)
def test_draws_that_cannot_be(densities, words):
    with pytest.raises(ConfigError, match=words):
        blind.draw(densities, 4, 0)


def test_means_have_students_interval_and_differences_welchs():
    draw = np.random.default_rng(0)
    values = {"neurons": draw.integers(1, 4, 17), "topk": draw.integers(2, 6, 23)}
    made = [
        rating(name, unit, int(v)) for name, all_ in values.items() for unit, v in enumerate(all_)
    ]
    for name, mean in blind.summary(made).items():
        low, high = stats.ttest_1samp(values[name], 0).confidence_interval()
        assert (mean.count, mean.mean) == (len(values[name]), pytest.approx(values[name].mean()))
        assert (mean.low, mean.high) == (pytest.approx(low), pytest.approx(high))
    gap = blind.difference(made, "topk", "neurons")
    low, high = stats.ttest_ind(
        values["topk"], values["neurons"], equal_var=False
    ).confidence_interval()
    assert gap.mean == pytest.approx(values["topk"].mean() - values["neurons"].mean())
    assert (gap.low, gap.high) == (pytest.approx(low), pytest.approx(high))


def test_too_few_ratings_have_no_interval():
    (mean,) = blind.summary([rating()]).values()
    assert math.isnan(mean.low)
    assert blind.difference([rating(), rating("topk")], "topk", "neurons") is None


def test_the_last_rating_counts_and_a_torn_line_costs_only_itself(tmp_path):
    path = tmp_path / "blind.ratings.jsonl"
    blind.append(path, rating(value=5, day=2))
    with path.open("ab") as file:
        file.write(b'{"basis": "neurons", "unit": 9, "ti')
    blind.append(path, rating(value=1, day=1))
    blind.append(path, rating("topk", value=2, label="<b>"))
    found = blind.latest(path)
    assert {(each.basis, each.unit): each.rating for each in found} == {
        ("neurons", 0): 5, ("topk", 0): 2,
    }  # fmt: skip
    assert blind.latest(tmp_path / "none") == []


@pytest.mark.parametrize("fields", [{"value": 0}, {"value": 6}, {"unit": -1}, {"label": "x" * 201}])
def test_what_a_rating_cannot_be(fields):
    with pytest.raises(ConfigError):
        rating(**fields)


def test_a_round_from_first_unit_to_summary(own, show):
    query = {"site": PLACE, "bases": ["neurons", LATENTS], "each": "2", "round": "3"}
    tables = {name: UnitTable.open(own.units(MODEL, SITE, name)) for name in ("neurons", LATENTS)}
    drawn = blind.draw(
        {name: table.columns["density"] for name, table in tables.items()}, 2, 3
    ).units
    path = own.units(MODEL, SITE, "x").with_name("blind.ratings.jsonl")
    for number, (basis, unit) in enumerate(drawn):
        at = show("rate", **query)
        page = shown(at)
        assert "<li>" in page
        # nothing tells what it is: no address, no other figure than shares of its own maximum
        assert f"{PLACE}/{basis}" not in page
        assert "unit?unit=" not in page
        keys = " ".join(str(button.key) for button in at.button)
        assert LATENTS not in keys
        largest = f"{float(tables[basis].columns['max'][unit]):.3g}"
        assert f'class="val">{largest}<' not in page
        assert 'class="val">1<' in page
        at.text_input(key=f"label-3-{number}").set_value("<script>kings</script>")
        at.button(key=f"rate-{(4 if basis == LATENTS else 1) + number % 2}").click().run()
        assert not at.exception
        assert len(blind.latest(path)) == number + 1
    page = shown(show("rate", **query))
    assert "What they were" in page
    assert "&lt;script&gt;kings" in page
    assert "<script>" not in page
    assert f"unit?unit={PLACE}/{LATENTS}/" in page
    made = blind.latest(path)
    gap = blind.difference(made, "neurons", LATENTS)
    assert f"{gap.mean:+.2f}, 95 % interval" in page
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == len(drawn)
    assert "blind.ratings" not in shown(show())  # beside unit tables, and none itself
    first, second = show("rate", **{**query, "round": "4"}), show("rate", **{**query, "round": "4"})
    assert shown(first) == shown(second)


def test_ratings_of_another_version_of_a_table_do_not_count(own, show):
    path = own.units(MODEL, SITE, "x").with_name("blind.ratings.jsonl")
    blind.append(path, rating(unit=3, table="another key"))
    assert "0 of" in show("rate").get("progress")[0].proto.text


def test_rating_needs_two_bases_and_their_store(own, show):
    at = show("rate", bases="neurons")
    assert "at least two" in shown(at)
    assert "are needed" not in shown(at)
    (own.store(MODEL) / "manifest.json").unlink()
    assert "The contexts cannot be shown" in shown(show("rate"))
    for name in ("neurons", LATENTS):
        own.units(MODEL, SITE, name).unlink()
    assert "are needed" in shown(show("rate"))


def test_a_rating_that_cannot_be_saved_is_said(own, show, monkeypatch):
    def full(path, new):
        raise ResourceError("no space left on the disk")

    at = show("rate")
    monkeypatch.setattr(blind, "append", full)
    at.button(key="rate-1").click().run()
    assert "no space left" in at.error[0].value
    assert "0 of" in at.get("progress")[0].proto.text
