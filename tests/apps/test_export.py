"""Choosing, searching and taking units away: the files hold what the table shows, and all of it."""

import csv
import io
import json

import numpy as np
import pytest

from apps import export, notes
from apps.listing import PAGE, Filter, Listing
from apps.notes import Note
from interp.features.table import UnitTable
from tests.apps.conftest import shown
from tests.apps.workspace import LATENTS, MODEL, SITE

NAMES = ("neurons", LATENTS, "random")


@pytest.fixture
def tables(built):
    return [UnitTable.open(built.units(MODEL, SITE, name)) for name in NAMES]


@pytest.fixture
def listing(tables):
    return Listing.of(tables)


def test_csv_has_every_unit_in_order_with_exact_figures(listing):
    rows = listing.sort(listing.select(Filter(dead=True)), "monosemanticity")
    text = export.csv(export.frame(listing, rows, ["monosemanticity", "active"], {})).decode()
    found = list(csv.DictReader(io.StringIO(text)))
    assert [line["address"] for line in found] == [listing.address(int(row)) for row in rows]
    for line, row in zip(found, rows, strict=True):
        value = listing.column("monosemanticity")[row]
        cell = line["monosemanticity"]
        assert np.float32(cell or "nan") == pytest.approx(np.float32(value), rel=0, nan_ok=True)
        assert line["active"] == str(int(listing.column("active")[row]))
        assert line["rule"] == listing.rules[row]


def test_json_says_what_the_figures_are(listing, tables):
    note = Note(unit=5, time="2026", label='a, "b"\n=c', rating=3)
    kept = {f"{MODEL}/{SITE}/{LATENTS}/5": note}
    rows = listing.select(Filter(bases=(LATENTS,), dead=True))
    content = json.loads(export.as_json(
        export.frame(listing, rows, ["monosemanticity", "density"], kept), tables
    ))  # fmt: skip
    assert len(content["units"]) == 96
    assert content["scores"] == {"monosemanticity": tables[0].scores["monosemanticity"]}
    assert content["provenance"][LATENTS]["commit"] == "0123456789abcdef"
    unit = content["units"][5]
    assert unit["label"] == note.label
    assert unit["rating"] == 3
    assert content["units"][6]["rating"] is None
    assert unit["density"] == float(str(np.float32(listing.column("density")[rows[5]])))
    assert content["units"][7]["monosemanticity"] is None


def test_rules_are_searched_whatever_the_case(listing):
    rows = listing.select(Filter(words="KING"))
    expected = [r for r in listing.select(Filter()) if "king" in listing.rules[r].lower()]
    assert rows.tolist() == expected
    assert 0 < len(rows) < len(listing.select(Filter()))
    assert listing.select(Filter(words="no rule has this")).tolist() == []


def test_units_page_searches_rules_and_chooses_columns(full, show):
    at = show("units", words="king", columns=["rule_auroc", "rule"], sort="density")
    frame = at.dataframe[0].value
    assert list(frame.columns) == ["basis", "unit", "density", "rule_auroc", "rule"]
    assert frame["rule"].str.contains("king", case=False).all()
    assert frame["density"].is_monotonic_decreasing
    assert "king" in at.text_input(key="words").value


def test_units_page_filters_by_any_score(full, show):
    at = show("units", score="senses_effective", least="2.5")
    frame = at.dataframe[0].value
    assert (frame["senses_effective"] >= 2.5).all()
    assert frame["basis"].str.contains("neurons").all()
    assert frame["senses_effective"].is_monotonic_decreasing
    assert "0 is chance" not in shown(at)


def test_another_score_is_shown_and_sorted_by(full, show):
    at = show("units")
    at.selectbox(key="score").set_value("senses_scattered").run()
    at.selectbox(key="score").set_value("rule_precision").run()
    assert not at.exception
    assert at.selectbox(key="sort").value == "rule_precision"
    frame = at.dataframe[0].value
    assert "rule_precision" in frame.columns
    assert frame["rule_precision"].is_monotonic_decreasing


def test_distributions_are_density_matched_until_told_otherwise(full, show):
    assert "diagonal is chance" in shown(show("units"))
    assert "all densities together" in shown(show("units", matched="false"))
    assert "all densities together" in shown(show("units", score="max"))


def test_units_page_offers_the_filtered_table(full, show):
    at = show("units", basis="random")
    labels = [button.label for button in at.get("download_button")]
    assert labels == ["CSV of 23 units", "JSON of 23 units"]


def test_labels_stand_in_the_table(own, show):
    path = notes.path_of(own.units(MODEL, SITE, "random"))
    notes.append(path, Note(unit=2, time="2026", label="noise", rating=1))
    frame = show("units", basis="random").dataframe[0].value
    assert frame.set_index("unit").loc[2, "label"] == "★ noise"
    assert len(frame) < PAGE
