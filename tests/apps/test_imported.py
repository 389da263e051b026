"""Activations that were imported, with token ids but no text or with neither: all opens."""

import re

import numpy as np
import pytest

from interp.features.table import UnitTable
from interp.store import ActivationStore
from interp.store.imports import ImportConfig, Table, import_activations
from interp.workspace import Workspace
from tests.apps.conftest import shown
from tests.apps.workspace import DEAD, MODEL, SITE, write_units

ADDRESS = f"{MODEL}/{SITE}"


@pytest.fixture(params=[False, True], ids=["no-ids", "ids"])
def imported(request, workspace, tmp_path) -> bool:
    """A workspace with a store imported from a .npy file, and whether it knows token ids."""
    draw = np.random.default_rng(0)
    values = draw.normal(size=(3000, 8)).astype(np.float32)
    tokens = draw.integers(0, 20, 3000)
    np.save(tmp_path / "acts.npy", values)
    np.save(tmp_path / "ids.npy", tokens)
    store = import_activations(
        Table(tmp_path / "acts.npy", values),
        model=MODEL,
        site=SITE,
        out=workspace.store(MODEL),
        tokens=Table(tmp_path / "ids.npy", tokens) if request.param else None,
        config=ImportConfig(run_rows=300),
    )
    found = np.concatenate([values, -values], axis=1)
    write_units(workspace, store, "neurons", found, signed=True, logits=False, meanings=True)
    return request.param


def test_positions_stand_where_words_would(imported, show):
    page = shown(show("unit", unit=f"{ADDRESS}/neurons/3"))
    assert "positions within its runs stand where words would" in page
    assert page.count("<li>") >= 5
    assert "No logit lens" in page


def test_scores_are_called_meaningless_only_without_ids(imported, show):
    unit = shown(show("unit", unit=f"{ADDRESS}/neurons/3"))
    units = shown(show("units"))
    for page in (unit, units):
        assert ("imported without token ids" in page) is not imported
    assert ('class="sense"' in unit) is imported
    assert bool(re.search(r'tk-chip"><i></i>#\d+<', unit)) is imported


def test_the_positions_are_those_of_the_peak(imported, show):
    space = Workspace.at()
    store = ActivationStore.open(space.store(MODEL))
    top = UnitTable.open(space.units(MODEL, SITE, "neurons")).contexts(3)[0]
    frame = show("units", sort="index", ascending="true", dead="true").dataframe[0].value
    assert f"«{store.positions[top.rows[0]]}»" in frame["strongest context"][3]


def test_every_page_opens(imported, show):
    for page in ("home", "unit", "training", "lab", "notes", "text"):
        show(page)
    assert "is dead" in shown(show("unit", unit=f"{ADDRESS}/neurons/{DEAD}"))
