"""What a language model said stands on the unit page, as text, with its judgement."""

import json

import pytest

from interp.features.explain.detection import detection
from interp.features.explain.files import ExplanationFile, explanations_path
from interp.features.table import UnitTable
from tests.apps.conftest import shown
from tests.apps.workspace import MODEL, SITE

ADDRESS = f"{MODEL}/{SITE}"
HOSTILE = "<img src=x onerror=alert(1)> dates \u202eand ages " + "x" * 900


@pytest.fixture
def neurons(built):
    return UnitTable.open(built.units(MODEL, SITE, "neurons"))


@pytest.fixture
def said(neurons):
    """Explanations of neuron 3 beside its table; removed again."""
    file = ExplanationFile(neurons)
    runs = [
        file.start({"backend": "b", "model": model, "prompt": "p", "table": key, "config": {}})
        for model, key in (("tiny<b>", neurons.key), ("old", "0" * 64))
    ]
    file.add(3, runs[0], HOSTILE, 12, detection([True] * 9 + [False], [False] * 10))
    file.add(3, runs[1], "made of another table", 12, None)
    file.write()
    yield
    explanations_path(neurons.path).unlink()


def test_an_explanation_is_shown_as_text_with_its_judgement(full, show, said):
    page = shown(show("unit", unit=f"{ADDRESS}/neurons/3"))
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt; dates" in page
    assert "said by tiny&lt;b&gt;, shown 12 contexts" in page
    assert "balanced accuracy <b>0.95</b>" in page
    assert "10 active and 10 silent" in page
    assert "\u202e" not in page
    assert "x" * 500 not in page
    assert "made of another table" not in page


def test_without_any_nothing_is_said(full, show, neurons):
    assert "said by" not in shown(show("unit", unit=f"{ADDRESS}/neurons/3"))


def test_a_malformed_file_is_a_warning_and_the_page_stays(full, show, said, neurons):
    explanations_path(neurons.path).write_text(json.dumps({"format": "interp-explanations"}))
    page = show("unit", unit=f"{ADDRESS}/neurons/3")
    assert any("no file of explanations" in each.value for each in page.warning)
    assert "Senses" in shown(page)
