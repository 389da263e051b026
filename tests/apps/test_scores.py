"""What the unit page says about meaning and scores, against the same numbers read otherwise."""

import re
from pathlib import Path

import numpy as np
import pytest

import interp.features
from apps import scores
from interp.features.measure import SCORES
from interp.features.table import UnitTable
from tests.apps.conftest import shown
from tests.apps.workspace import LATENTS, MODEL, SITE

ADDRESS = f"{MODEL}/{SITE}"


@pytest.fixture
def neurons(built):
    return UnitTable.open(built.units(MODEL, SITE, "neurons"))


def _values(table: UnitTable, unit: int) -> dict[str, float]:
    return {name: float(column[unit]) for name, column in table.columns.items()}


def _lines(table: UnitTable, unit: int) -> dict[str, list[str]]:
    found = [line for _, lines in scores.rows(table, _values(table, unit)) for line in lines]
    return {re.sub("<[^>]*>", "", line[0]): line for line in found}


def test_every_score_of_the_guide_has_its_place():
    guide = Path(interp.features.__file__).with_name("README.md").read_text(encoding="utf-8")
    table = guide[guide.index("| Question |") : guide.index("Experimental:")]
    named = set(re.findall(r"`([a-z_]+)`", table)) & set(SCORES)
    assert len(named) > 12
    assert named <= set(scores.KNOWN)
    assert set(scores.KNOWN) <= set(SCORES)


def test_bold_figures_of_the_guide_are_what_a_score_is_proven_on():
    guide = Path(interp.features.__file__).with_name("README.md").read_text(encoding="utf-8")
    for name, words, topics in re.findall(
        r"^\| `(\w+)`[^|]*\| (\S+).*?\| .*?\| (\S+).*?\| .*?\|$", guide, re.MULTILINE
    ):
        bold = [kind for kind, cell in (("words", words), ("topics", topics)) if "**" in cell]
        assert scores.KNOWN[name].proven == ", ".join(bold)


def test_a_line_holds_interval_null_percentile_and_n(neurons):
    values = _values(neurons, 3)
    lines = _lines(neurons, 3)
    middle, half = values["rule_auroc"], 1.96 * values["rule_auroc_se"]
    assert scores.interval(values, "rule_auroc") == pytest.approx((middle - half, middle + half))
    assert lines["rule_auroc"][3] == "½"
    sampled = min(128, int(values["active"]))
    assert lines["rule_auroc"][5] == f"{sampled} sampled tokens, judged on half"
    assert lines["senses_effective"][2] == "–"
    assert "words, topics" in lines["senses_effective"][6]
    assert "experimental" in lines["senses"][6]
    assert "formula only" in lines["rule_precision"][6]
    share = 100 * values["monosemanticity_control"]
    assert float(lines["monosemanticity"][4].rstrip(" %")) == pytest.approx(share, rel=1e-2)
    assert lines["monosemanticity"][5] == f"{int(values['scored_rows'])} scored tokens"


def test_choices_put_scores_first_and_flags_nowhere(neurons):
    names = scores.choices(neurons.columns)
    assert names[0] == "monosemanticity"
    assert sorted(names) == sorted(set(neurons.columns) - {"dead", "rare"})


def test_senses_stand_with_their_share_and_their_own_contexts(full, show, neurons):
    page = shown(show("unit", unit=f"{ADDRESS}/neurons/3"))
    meant = neurons.meaning(3)
    assert meant is not None
    assert page.count('<div class="sense">') == len(meant.senses) == 4
    total = sum(sense.share for sense in meant.senses)
    assert total == pytest.approx(1)
    for number, block in enumerate(page.split('<div class="sense">')[1:]):
        words = re.findall(r'tk-peak"[^>]*>(.*?)</mark>', block.split("Contexts")[0])
        assert len(set(words[:3])) == 1, f"sense {number} mixes {words}"
    assert f"{100 * meant.senses[0].share:.3g} % of mass" in page


def test_rule_purity_tokens_and_scores_are_on_the_page(full, show):
    page = shown(show("unit", unit=f"{ADDRESS}/{LATENTS}/3"))
    assert 'class="rule">token “' in page
    assert "precision <b>0.875</b>" in page
    assert "recall <b>0.625</b>" in page
    assert "Purity by stratum" in page
    for stratum in ("0-1 %", "50-100 %"):
        assert stratum in page
    assert "Does it fire in one kind of context?" in page
    assert "Trust:" in page


def test_a_table_without_meanings_shows_what_it_has(full, show):
    page = shown(show("unit", unit=f"{ADDRESS}/random/3"))
    assert "sense" not in page.partition("<style>")[0] or 'class="sense"' not in page
    assert 'class="rule"' not in page
    assert "Purity by stratum" not in page
    assert "Does it fire in one kind of context?" in page


def test_rules_of_all_units_are_those_of_each(neurons, built):
    one_by_one = [neurons.meaning(unit).rule for unit in range(neurons.n_units)]
    assert neurons.rules == one_by_one
    assert any(one_by_one)
    random = UnitTable.open(built.units(MODEL, SITE, "random"))
    assert random.rules == [""] * random.n_units


def test_dead_units_have_no_rule_and_no_scores(full, show):
    from tests.apps.workspace import DEAD

    page = shown(show("unit", unit=f"{ADDRESS}/{LATENTS}/{DEAD}"))
    assert 'class="rule"' not in page
    assert "Does it fire" not in page


def test_interval_needs_an_error():
    assert scores.interval({"x": 1.0}, "x") is None
    assert scores.interval({"x": np.nan, "x_se": 0.1}, "x") is None
