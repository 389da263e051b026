"""Intervene: a unit changed on a text of one's own, and every way in which that cannot be."""

import pytest
import streamlit
import torch
from transformer_lens import TransformerBridge, TransformerBridgeConfig

from apps import causes
from interp.errors import ConfigError, DataError
from interp.evaluate.causal import Intervention, part
from interp.features.bases import NeuronBasis
from interp.models import LoadedModel
from interp.store import ActivationStore
from tests.apps.conftest import shown
from tests.apps.workspace import MODEL, SITE, WORDS

NEURON = f"{MODEL}/{SITE}/neurons/4"
TEXT = "the| king| of| Denmark| speaks"


class Words:
    """A tokenizer of single words."""

    bos = None

    def encode(self, text):
        return [WORDS.index(word) for word in text.split("|") if word]


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    config = TransformerBridgeConfig(
        d_model=24, d_head=12, n_heads=2, n_layers=1, n_ctx=64, d_vocab=len(WORDS), d_mlp=32,
        act_fn="relu", seed=3,
    )  # fmt: skip
    bridge = TransformerBridge.boot_native(config)
    with torch.no_grad():
        for parameter in bridge.parameters():
            parameter.mul_(3)
    loaded = LoadedModel(MODEL, bridge, None, digest="0" * 64)
    loaded.tokenizer = Words()
    return loaded


@pytest.fixture
def loaded(full, model, monkeypatch):
    monkeypatch.setattr("interp.models.load_model", lambda name, workspace: model)
    streamlit.cache_resource.clear()
    yield full
    streamlit.cache_resource.clear()


def test_page_shows_all_three_beside_each_other(loaded, show):
    at = show("intervene", unit=NEURON, text=TEXT, kind="steer", value="6")
    page = shown(at)
    assert not at.error
    for title in ("as it is", "with the unit changed", "with a random direction"):
        assert page.count(f"<b>{title}</b>") == 2  # predictions, and what the model writes
    assert page.count("random ") >= 3
    assert "KL, nats a token" in page
    assert at.number_input(key="value").value == 6
    before = at.selectbox(key="position").value
    at.selectbox(key="position").set_value("0: the").run()
    assert not at.exception
    assert before != "0: the" or shown(at) == page


def test_ablation_takes_no_value_and_a_silent_unit_is_said_to_be_one(loaded, show, model):
    at = show("intervene", unit=NEURON, text=TEXT)
    assert not at.number_input
    x = model.activations(
        torch.tensor([[len(WORDS) - 1, *Words().encode(TEXT)]]), [model.site(SITE)]
    )[SITE][0, 1:]
    silent = int((x <= 0).all(dim=0).nonzero()[0, 0])
    at = show("intervene", unit=f"{MODEL}/{SITE}/neurons/{2 * silent}", text=TEXT)
    assert "does not fire on this text" in at.info[0].value


def test_trial_is_the_library_s_own_figures(full, model):
    store = ActivationStore.open(full.store(MODEL))
    basis = NeuronBasis(SITE, 24, signed=True)
    what = Intervention(kind="clamp", value=3.0)
    trial = causes.run(model, store, basis, causes.Asked(4, TEXT, what, 6))
    assert trial.first == 1
    assert trial.pieces == ["the", " king", " of", " Denmark", " speaks"]
    assert len(trial.effect.controls) == causes.SEEDS
    tokens = torch.tensor([len(WORDS) - 1, *Words().encode(TEXT)])
    x = model.activations(tokens[None], [model.site(SITE)])[SITE][0, 1:].float()
    assert trial.active == part(model, basis, 4).activation(x).tolist()
    assert len(set(trial.written)) > 1


def test_what_does_not_fit_is_answered_with_numbers(full, model):
    store = ActivationStore.open(full.store(MODEL))
    basis = NeuronBasis(SITE, 24, signed=True)

    def asked(text):
        return causes.Asked(4, text, Intervention(), 24)

    with pytest.raises(ConfigError, match="with 24 to write at most 40 fit; shorten it by 10"):
        causes.run(model, store, basis, asked("|".join(["the"] * 50)))
    with pytest.raises(DataError, match="too short"):
        causes.run(model, store, basis, asked("|"))


def test_pages_without_a_unit_a_text_or_a_model(full, show):
    assert "Choose a unit first" in shown(show("intervene"))
    assert "the text goes nowhere else" in shown(show("intervene", unit=NEURON))
    assert "no unit address" in show("intervene", unit="nonsense").error[0].value
    assert "units 0 to 47" in show("intervene", unit=f"{MODEL}/{SITE}/neurons/99").error[0].value
    assert MODEL in show("intervene", unit=NEURON, text=TEXT).error[0].value
