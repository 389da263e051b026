"""The quick form of every result, as the command runs it, and what the lab's README says of it."""

import re
import time
from pathlib import Path

import pytest

import interp.lab
from interp.lab import experiments, find_experiment, reproduce

README = Path(interp.lab.__file__).parent / "README.md"

NOT_REPRODUCED = {
    "fractions": {"greatest |D - 3/4|"},
    "objective-and-superposition": {
        "sparse, cross-entropy minus brier",
        "dense, cross-entropy minus relu",
        "single-feature neurons, cross-entropy",
        "single-feature neurons, brier minus cross-entropy",
    },
    "objectives": {"spread over objectives / spread over layers, token purity"},
    "one-sentence": {"movement in ten latents", "tiny: loss on other text, rise"},
    "phase-diagram": {"cells in the computed phase, n=3 m=2"},
    "planted-recovery": {"MCC"},
    "privileged-basis": {"monosemantic neurons, most of density .08 down"},
    "scaling-laws": {
        "exponent of N, both together",
        "steps in width and k that lower 1 - FVE",
    },
    "seed-stability": {"PW-MCC"},
    "stages": {
        "loss of answers, preferred / tuned",
        "loss of answers, tuned / pretrained",
    },
    "towards-monosemanticity": {
        "latent purer than sparse neuron, token_purity",
        "latent purer than sparse neuron, senses_effective",
        "latent purer than sparse neuron, rule_auroc",
        "latent purer than sparse neuron, rule_one_auroc",
    },
    "untrained-control": {
        "entropy, trained, rise with depth",
        "entropy, trained minus untrained, last block",
        "trained purer than untrained, monosemanticity",
        "trained purer than untrained, token_purity",
        "trained purer than untrained, senses_effective",
        "trained purer than untrained, rule_auroc",
        "trained purer than untrained, rule_one_auroc",
    },
}
"""What is known to come out otherwise than published, and is reported so."""


@pytest.mark.slow
@pytest.mark.parametrize("name", experiments())
def test_quick_forms_take_under_three_minutes_and_come_out_as_known(name, furnished):
    started = time.process_time()
    result = reproduce(find_experiment(name).at("quick"))
    assert time.process_time() - started < 180
    failed = {check.expected.quantity for check in result.checks if not check.passed}
    assert failed == NOT_REPRODUCED.get(name, set())


@pytest.mark.parametrize("name", experiments())
def test_known_failures_say_why(name):
    expected = {each.quantity: each for each in find_experiment(name).at("quick").expected()}
    for quantity in NOT_REPRODUCED.get(name, set()):
        assert expected[quantity].why, quantity


def test_the_readme_has_every_quantity_with_the_known_verdict():
    text = README.read_text(encoding="utf-8").split("<!-- table -->")[1].split("<!-- end -->")[0]
    name, found = "", {}
    for line in text.strip().splitlines()[2:]:
        cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)]
        first, _, quantity, *_, verdict = cells[1:-1]
        name = first.strip("`") or name
        found.setdefault(name, {})[quantity] = verdict.split(" (")[0].split(",")[0]
    wanted = {name: kind.at("quick").expected() for name, kind in experiments().items()}
    assert found.keys() == wanted.keys()
    for name, expected in wanted.items():
        judged = {each for each, verdict in found[name].items() if verdict != "reported"}
        assert judged == {each.quantity for each in expected}
        failed = {each for each, verdict in found[name].items() if verdict == "FAIL"}
        assert failed == NOT_REPRODUCED.get(name, set())
