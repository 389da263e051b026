"""Bases side by side: medians and their intervals, the units left out, wrong use."""

import json

import numpy as np
import pytest
from scipy.stats import quantile_test

from interp.cli import main
from interp.errors import UnknownName
from interp.features import open_units
from interp.features.standing import SCORES, _median, side_by_side
from interp.workspace import Workspace
from tests.tables import make_table

SITE = "resid_post.0"


@pytest.mark.parametrize("n", [1, 2, 6, 7, 40, 501])
def test_the_interval_is_scipys(n: int) -> None:
    values = np.random.default_rng(n).normal(size=n)
    (median, low, high), count = _median(np.append(values, np.nan))
    assert (median, count) == (np.median(values), n)
    if n > 5:  # fewer have no interval of 95 %: scipy gives NaN, we all there is
        theirs = quantile_test(values, p=0.5).confidence_interval(0.95)
        assert (low, high) == pytest.approx(theirs)
    else:
        assert (low, high) == (values.min(), values.max())


def test_it_covers_the_true_median_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).exponential(size=(2000, 31))
    inside = [low <= np.log(2) <= high for (_, low, high), _ in map(_median, draws)]
    assert 0.95 - 0.015 <= np.mean(inside) <= 0.98


def test_a_row_a_score_and_basis(tmp_path) -> None:
    space = Workspace.at(tmp_path)
    tables = [
        make_table(space, basis=basis, seed=i) for i, basis in enumerate(("neurons", "random"))
    ]
    rows = side_by_side(open_units(space, "toy", SITE), ["monosemanticity", "density"])
    assert [(row["score"], row["basis"]) for row in rows] == [
        (score, table.basis) for score in ("monosemanticity", "density") for table in tables
    ]
    for row, table in zip(rows, tables, strict=False):
        scored = np.isfinite(table.columns["monosemanticity"])
        assert row["scored"] == scored.sum() < table.n_units
        assert row["median"] == np.median(table.columns["monosemanticity"][scored])
        assert row["purer"] == SCORES["monosemanticity"]
    with pytest.raises(UnknownName, match="purity_of_heart"):
        side_by_side(open_units(space, "toy", SITE), ["purity_of_heart"])


def test_the_command(tmp_path, capsys) -> None:
    make_table(Workspace.at(tmp_path))
    assert main(["scores", "toy", SITE, "--workspace", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "monosemanticity  higher  neurons" in said
    assert main(["scores", "toy", SITE, "--workspace", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["scores"]
    assert {row["basis"] for row in rows} == {"neurons"}
    assert main(["scores", "toy", "mlp_post.7", "--workspace", str(tmp_path)]) == 2
