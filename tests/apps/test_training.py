"""Trainings on disk and their page: curves as logged, progress, the front of the best."""

import json

import numpy as np
import pytest

from apps.runs import QUIET, read_run
from apps.views.training import _front
from tests.apps.conftest import shown
from tests.apps.workspace import LATENTS, MODEL, SITE

ADDRESS = f"{MODEL}/{SITE}"
LATE = "topk-96-k4-s0"


def test_a_finished_run_has_both_kinds_of_points(built):
    run = read_run(built.dictionary(MODEL, SITE, LATENTS))
    assert run.name == f"{ADDRESS}/{LATENTS}"
    assert run.state() == "finished"
    assert run.progress == 1
    train, held = run.train["FVE"], run.heldout["FVE"]
    assert train.tokens.tolist() == list(range(100, 4001, 100))
    np.testing.assert_allclose(train.values, 1 - np.exp(-np.arange(1, 41) / 10))
    assert held.tokens.tolist() == [1000, 2000, 3000, 4000]
    np.testing.assert_allclose(held.values, 0.9 - np.exp(-np.arange(10, 41, 10) / 10))
    assert set(run.heldout) == {"FVE", "L0", "dead"}
    assert run.heldout["L0"].values.tolist() == [4.25] * 4
    assert run.train["dead"].values.tolist() == [1] * 40


def test_an_unfinished_run_is_running_until_its_log_falls_silent(built):
    run = read_run(built.dictionary(MODEL, SITE, LATE))
    assert (run.tokens, run.asked, run.progress) == (2000, 4000, 0.5)
    assert run.logged is not None
    assert run.state(run.logged + 1) == "running"
    assert run.state(run.logged + QUIET + 1) == "stopped"
    assert run.words(run.logged + 120) == "50 % of 4,000 tokens, last line 2 min ago"


def test_damaged_lines_are_skipped(own):
    folder = own.dictionary(MODEL, SITE, LATE)
    with (folder / "log.jsonl").open("ab") as file:
        file.write(b'[3]\n\xff\n{"tokens": "x", "loss": 1}\n{"tokens": 9e9, "loss": NaN}\n')
        file.write(b'{"tokens": 2100, "lo')
    run = read_run(folder)
    assert run.tokens == 2000
    assert len(run.train["loss"].values) == 20


@pytest.mark.parametrize("text", ["{}", "[1", '{"format": "other"}'])
def test_a_foreign_config_is_a_note(own, show, text):
    (own.dictionary(MODEL, SITE, LATE) / "config.json").write_text(text)
    assert read_run(own.dictionary(MODEL, SITE, LATE)).state() == "unreadable"
    assert "config" in shown(show("training"))


def test_a_run_without_a_log_or_a_length(own, show):
    folder = own.dictionary(MODEL, SITE, LATE)
    (folder / "log.jsonl").unlink()
    config = json.loads((folder / "config.json").read_text())
    del config["train"]
    (folder / "config.json").write_text(json.dumps(config))
    run = read_run(folder)
    assert run.progress is None
    assert run.words() == "0 tokens so far, nothing logged yet"
    assert run.state() == "stopped"
    page = shown(show("training", dictionary=[LATE]))
    assert "Nothing is logged of the chosen dictionaries" in page


def test_front_is_what_no_other_dictionary_beats():
    points = [(8.0, 0.7), (16.0, 0.8), (16.0, 0.82), (20.0, 0.75), (32.0, 0.9), (64.0, 0.9)]
    beaten = [
        point
        for point in points
        if any(o != point and o[0] <= point[0] and o[1] >= point[1] for o in points)
    ]
    assert _front(points) == [point for point in points if point not in beaten]


def test_training_page_overlays_dictionaries_and_lists_what_they_reach(full, show):
    at = show("training", site=ADDRESS)
    page = shown(at)
    assert LATENTS in page
    assert "0.873" in page
    assert len(at.get("progress")) == 1
    charts = at.get("echarts_chart") or at.get("echarts")
    assert len(charts) == 5


def test_training_page_reads_its_state_from_the_url(full, show):
    at = show("training", site=ADDRESS, dictionary=[LATENTS])
    assert f"<b>{LATENTS}</b>" in shown(at)
    assert f"<b>{LATE}</b>" not in shown(at)
    assert "No dictionary of site 'x/y'" in shown(show("training", site="x/y"))


def test_training_without_any_dictionary(workspace, show):
    assert "No dictionary here yet" in shown(show("training"))


def test_home_shows_trainings_under_way(own, show):
    at = show()
    assert "Trainings under way" in shown(at)
    (bar,) = at.get("progress")
    assert LATE in bar.proto.text.replace("\\", "")
    assert "50 % of 4,000 tokens" in bar.proto.text
    assert bar.proto.value == 50
