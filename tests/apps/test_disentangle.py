"""Disentangle: a neuron's senses by latents, a latent's neurons, and every state without them."""

import shutil
from urllib.parse import quote_plus

import numpy as np
import pytest
import torch

from apps import carried, jobs
from interp.features.disentangled import found, path_of, read
from interp.features.table import UnitTable
from interp.files import read_json, write_json
from interp.sae.files import write_tensors
from interp.store import ActivationStore
from tests.apps.conftest import shown
from tests.apps.workspace import CARRIED, LATENTS, MODEL, SITE, WORDS

STEM = f"{MODEL}/{SITE}"


@pytest.fixture
def table(own) -> UnitTable:
    return UnitTable.open(own.units(MODEL, SITE, "neurons"))


def links(at) -> list[tuple[str, str]]:
    """Label and query of every link of a page."""
    found = [element.proto for element in at.get("page_link")]
    return [(link.label, link.query_string) for link in found]


def test_a_neuron_beside_its_latents(full, show):
    at = show("disentangle", unit=f"{STEM}/neurons/{CARRIED}")
    page = shown(at)
    assert "sense 1 is carried by latents that hold up under ablation; sense 2 is carried" in page
    # A carrier a sense, and its own cell of the square.
    assert page.count('class="heat-up heat-carrier"') == 4
    assert "+1.500" in page
    assert "-0.250" in page
    assert "heat-down" in page
    assert "<b>75%</b> [60%, 80%]" in page
    assert "100% fall into their own" in page
    assert not at.error


def test_links_lead_both_ways(full, show):
    at = show("disentangle", unit=f"{STEM}/neurons/{CARRIED}")
    assert {"Unit page", "Ablate the neuron here"} <= {label for label, _ in links(at)}
    latent = quote_plus(f"{STEM}/{LATENTS}/10")
    for target in ("unit", "disentangle", "intervene"):
        assert f'<a href="{target}?unit={latent}' in shown(at)
    labels = [label for label, _ in links(show("unit", unit=f"{STEM}/neurons/3"))]
    assert "Disentangle: the latents behind its senses" in labels


def test_hostile_exemplars_stay_text(own, show, table):
    (path,) = found(table, CARRIED).values()
    record = read_json(path)
    tokens = ActivationStore.open(own.store(MODEL)).tokens
    word = WORDS.index("<script>document.title='pwned'</script>")
    record["senses"][0]["exemplar"] = int(np.flatnonzero(tokens == word)[0])
    write_json(path, record)
    page = shown(show("disentangle", unit=f"{STEM}/neurons/{CARRIED}"))
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


def test_a_neuron_that_was_not_computed_yet(full, show):
    at = show("disentangle", unit=f"{STEM}/neurons/5")
    assert "Not computed yet" in at.info[0].value
    assert f"interp disentangle {STEM}/neurons/5" in at.get("code")[0].value


def test_the_button_starts_a_job_that_the_page_watches(own, show, no_start, table):
    unit = f"{STEM}/neurons/5"
    at = show("disentangle", unit=unit)
    at.toggle(key="effect").set_value(False).run()
    at.button(key="compute").click().run()
    (job,) = no_start
    assert job.command == f"interp disentangle --dictionary={LATENTS} --no-model -- {unit}"
    at = show("disentangle", unit=unit)  # as after a refresh
    assert "disentangle starting" in at.get("progress")[0].proto.text
    assert "compute" not in [button.key for button in at.button]
    at.button(key=f"cancel-{job.name}").click().run()
    assert jobs.cancellations(job.path) == 1
    at = show("disentangle", unit=f"{STEM}/neurons/6")  # another neuron has no job
    assert at.button(key="compute")
    write_json(job.path / jobs.STATE, {"pid": 1, "code": 1, "cancelled": False})
    (job.path / jobs.LOG).write_text("interp disentangle: <b>no space left</b>\n")
    at = show("disentangle", unit=unit)
    assert "failed" in at.warning[0].value
    assert "<b>no space left</b>" in at.get("code")[0].value
    assert at.button(key="compute")
    shutil.copy(found(table, CARRIED)[LATENTS], path_of(table.path, 5, LATENTS))
    assert "sense 1 is carried" in shown(show("disentangle", unit=unit))


def test_a_stale_or_broken_file_is_told_and_can_be_made_again(own, show, table):
    (path,) = found(table, CARRIED).values()
    write_json(path, {"format": "interp-disentangled", "version": 1})
    at = show("disentangle", unit=f"{STEM}/neurons/{CARRIED}")
    assert "malformed" in at.warning[0].value
    assert at.button(key="compute")


def test_wrong_addresses_and_bases_are_answered(full, show):
    page = shown(show("disentangle"))
    assert "Choose a neuron" in page
    assert f">{STEM}/neurons/{CARRIED}</a>" in page  # what was found before
    assert "no unit address" in show("disentangle", unit="nonsense").error[0].value
    assert "units 0 to 47" in show("disentangle", unit=f"{STEM}/neurons/99").error[0].value
    at = show("disentangle", unit=f"{STEM}/random/2")
    assert "no dictionary of this workspace" in at.info[0].value
    at = show("disentangle", unit=f"{STEM}/{LATENTS}/2")
    assert "holds no weights" in at.error[0].value


def test_a_latent_and_the_neurons_it_is_spread_over(own, show):
    decoder = torch.zeros(96, 24)
    decoder[4, [2, 9]] = torch.tensor([0.6, -0.8])
    folder = own.dictionary(MODEL, SITE, LATENTS)
    weights = {"W_dec": decoder, "W_enc": decoder.T.contiguous()}
    write_tensors(folder / "weights.safetensors", weights, {})
    at = show("disentangle", unit=f"{STEM}/{LATENTS}/4")
    page = shown(at)
    assert "Written over 1.85 of 24 neurons" in page  # 1 / (.36² + .64²)
    labels = [label for label, _ in links(at)]
    assert labels.index("Neuron 9-") < labels.index("Neuron 2+")
    assert "64 % of its squared weights" in page


def test_the_site_without_a_dictionary_names_the_command(own, show):
    shutil.rmtree(own.dictionary(MODEL, SITE, LATENTS).parent)
    at = show("disentangle", unit=f"{STEM}/neurons/{CARRIED}")
    assert "interp train" in at.info[0].value


def test_rows_of_the_heat_map_add_up(full):
    table = UnitTable.open(full.units(MODEL, SITE, "neurons"))
    (path,) = found(table, CARRIED).values()
    record = read(path, table)
    for sense in record.senses:
        parts = (*sense.contributions, sense.others, sense.bias, sense.error)
        np.testing.assert_allclose(sum(parts), sense.activation)
    assert carried.heat(record).count("<tr>") == 1 + len(record.senses)
