"""What results expect, how they are judged, and which settings are refused."""

import math

import numpy as np
import pytest

from interp.config import from_dict
from interp.errors import ConfigError, DataError, UnknownName
from interp.lab import Check, Expected, Measurement, experiments, find_experiment, with_seeds


@pytest.mark.parametrize("name", experiments())
@pytest.mark.parametrize("effort", ["quick", "full"])
def test_each_result_says_what_it_expects(name, effort):
    experiment = find_experiment(name).at(effort)
    assert experiment.claim.endswith(".")
    assert experiment.paper
    for expected in experiment.expected():
        assert expected.low <= expected.high
        assert expected.accepts(expected.value), expected


def test_a_check_passes_where_its_mean_lies_in_the_range():
    expected = Expected(quantity="q", value=1.0, low=0.9, high=1.1)
    inside = Check(expected=expected, values=(0.8, 1.1, 1.1))
    assert inside.passed
    assert inside.mean == pytest.approx(1.0)
    assert inside.spread == pytest.approx(np.std([0.8, 1.1, 1.1], ddof=1))
    for value in (0.89, 1.11):
        assert not Check(expected=expected, values=(value,)).passed
    assert Check(expected=expected, values=(1.0,)).spread is None
    assert Check(expected=expected, values=(1.1,)).passed
    open_ended = Expected(quantity="q", value=3.0, low=2.5)
    assert Check(expected=open_ended, values=(99.0,)).to_dict()["high"] is None


def test_the_reason_stands_beside_a_failure_only():
    expected = Expected(quantity="q", value=1.0, low=0.9, why="too few steps")
    assert Check(expected=expected, values=(0.5,)).to_dict()["why"] == "too few steps"
    assert Check(expected=expected, values=(1.0,)).to_dict()["why"] == ""


def test_a_measurement_that_is_no_number_is_refused():
    with pytest.raises(DataError, match="loss came out as nan"):
        Measurement(values={"loss": math.nan})


def test_unknown_results_and_no_seeds_are_refused():
    with pytest.raises(UnknownName, match="pentagon"):
        find_experiment("pentagram")
    with pytest.raises(ConfigError, match="seeds"):
        with_seeds(find_experiment("pentagon").at("quick"), 0)
    assert with_seeds(find_experiment("pentagon").at("quick"), 7).seeds == 7


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("pentagon", {"density": 0.0}, "density is the share"),
        ("double-descent", {"sizes": [3, 5]}, "three sizes"),
        ("double-descent", {"active": 0.0}, "active"),
        ("fve-definitions", {"rows": 1}, "rows"),
        ("pentagon", {"restarts": 0}, "restarts"),
        ("dimensions", {"inverse_densities": [0.5]}, "density is the share"),
        ("correlated", {"density": 0.6}, "density is the share"),
        ("phase-diagram", {"cells": 1}, "cells"),
        ("absolute-value", {"features": 0}, "features and restarts"),
        ("planted-recovery", {"rows": 0}, "rows"),
        ("seed-stability", {"dictionaries": 1}, "at least 2"),
        ("before-and-after", {"epochs": [1, 3]}, "rise from 0"),
        ("objectives", {"layers": 1}, "at least 2"),
        ("one-sentence", {"steps": 0}, "steps"),
        ("scaling-laws", {"widths": [16, 8]}, "rising"),
        ("stages", {"beta": 0.0}, "beta"),
        ("grokking", {"p": 8}, "odd"),
        ("progress-measures", {"seeds": 0}, "seeds"),
        ("objective-and-superposition", {"inverse_densities": [0.5]}, "density is the share"),
        ("objective-and-superposition", {"restarts": 0}, "restarts"),
        ("towards-monosemanticity", {"widths": [64, 32]}, "rise"),
        ("untrained-control", {"layers": 1}, "at least 2 layers"),
    ],
)
def test_impossible_settings_are_refused(name, settings, text):
    with pytest.raises(ConfigError, match=text):
        from_dict(find_experiment(name), settings)


def test_more_dimensions_than_features_are_refused_before_any_training():
    wide = from_dict(find_experiment("plateau"), {"features": 4, "hidden": 5})
    with pytest.raises(ConfigError, match="nothing to superpose"):
        wide.measure(0)
