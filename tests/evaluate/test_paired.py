"""A crosscoder of two models, judged on the two stores it was trained on."""

import json

import numpy as np
import pytest
import torch

from interp.cli import main
from interp.evaluate import candidate, measure
from interp.features import open_units
from interp.sae import TopK, TrainConfig, train
from interp.store import PairedStore
from tests.evaluate.test_probing import domains  # noqa: F401
from tests.stores import make_store

SITE, WIDTH = "resid_post.0", 10


@pytest.fixture
def pair(workspace):
    """The same rows of two models: the second's are the first's turned, and louder."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(1200, WIDTH)).astype(np.float32) * draw.exponential(size=(1, WIDTH))
    turned = (2 * x[:, ::-1]).astype(np.float32)
    stores = [
        make_store(
            workspace.store(name), activations={SITE: rows}, documents=30, model=name,
            dtype="float32",
        )
        for name, rows in (("base", x.astype(np.float32)), ("tuned", turned))
    ]  # fmt: skip
    paired = PairedStore(*stores)
    site = paired.site(SITE).name
    out = workspace.dictionary(paired.model, site, "cross")
    config = TrainConfig(tokens=4096, batch=256)
    return paired, train(paired, site, TopK(latents=40, k=4), config, out=out)


def test_reconstruction_is_of_both_models_rows(pair) -> None:
    store, dictionary = pair
    (found,) = measure([candidate(dictionary, "cross")], store)
    rows = store.rows_of("heldout")
    x = np.concatenate([each.take(SITE, rows).astype(np.float64) for each in store._pair], axis=1)
    with torch.no_grad():
        made = dictionary(torch.from_numpy(x).float()).double().numpy()
    error = ((x - made) ** 2).sum()
    assert found.heldout.rows == len(rows)
    assert found.heldout.fve == pytest.approx(
        1 - error / ((x - x.mean(axis=0)) ** 2).sum(), abs=1e-5
    )
    assert found.heldout.fve > 0.3


def test_the_command_line_judges_it_without_a_model(pair, capsys) -> None:
    capsys.readouterr()
    asked = ["evaluate", "base+tuned", SITE, "cross", "--probe"]
    assert main(asked) == 0
    text = capsys.readouterr().out
    assert "base+tuned is of two models: no downstream loss" in text
    assert "rotation@k4" in text
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["heldout"]["l0"] == 4
    assert {each["basis"] for each in found["probes"]} == {"neurons", "random", "cross"}
    assert main(["evaluate", "base+tuned", SITE, "cross", "--absorption"]) == 2
    assert "a site alone" in capsys.readouterr().err


def test_the_command_line_extracts_its_latents(pair, workspace, capsys) -> None:
    store, dictionary = pair
    capsys.readouterr()
    assert main(["extract", "base+tuned", SITE, "--bases", "cross"]) == 0
    said = capsys.readouterr().out
    assert "base+tuned is of two models: no promoted tokens" in said
    table = open_units(workspace, store.model, store.site(SITE).name).table("cross")
    assert f"interp units {table.model} {table.site}" in said
    with torch.no_grad():
        z = dictionary.encode(torch.from_numpy(store.take(SITE, np.arange(store.rows))).float())
    used = ~store.sinks
    density = (z.numpy()[used] > 0).mean(axis=0)
    np.testing.assert_allclose(table.column("density"), density, atol=2e-3)
    assert not table.has_logits
