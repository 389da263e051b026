"""Your text: the units on a text of one's own, and every way in which it cannot be read."""

import json

import numpy as np
import pytest
import torch

from apps import reading, rulers, theme
from interp.errors import ConfigError, DataError, FormatError, UnknownName
from interp.features.bases import NeuronBasis
from interp.features.table import UnitTable
from interp.store import ActivationStore
from tests.apps.conftest import shown
from tests.apps.workspace import LATENTS, MODEL, SITE, WORDS

CONTEXT = 12


class Words:
    """A tokenizer of single words."""

    bos = None

    def encode(self, text):
        return [WORDS.index(word) for word in text.split("|") if word]


class Tiny:
    """A model whose activations are one-hot in the token, after a check of the window's start."""

    name, n_ctx, device = MODEL, CONTEXT, "cpu"

    def __init__(self, site, bos):
        self._site, self._bos, self.tokenizer = site, bos, Words()

    def site(self, name):
        assert name == SITE
        return self._site

    def activations(self, tokens, sites):
        assert tokens[0, 0] == self._bos
        out = torch.zeros(*tokens.shape, self._site.width)
        for at, token in enumerate(tokens[0].tolist()):
            out[0, at, token % self._site.width] = 1.0 + at
        return {SITE: out}


@pytest.fixture
def store(built):
    return ActivationStore.open(built.store(MODEL))


@pytest.fixture
def model(store):
    return Tiny(store.sites[SITE], len(WORDS) - 1)


@pytest.fixture
def neurons(store):
    return NeuronBasis(SITE, store.sites[SITE].width, signed=True)


def test_reading_follows_the_model_without_its_bos(model, store, neurons):
    found = reading.read(model, store, SITE, [neurons], "the| king| king")
    assert found.pieces == ["the", " king", " king"]
    values = found.activations["neurons"]
    assert values.shape == (3, 48)
    assert values[0, 2 * 0] == 2.0
    assert values[1, 2 * 1] == 3.0
    assert values[:, 1::2].max() == 0


def test_a_text_that_does_not_fit_is_answered_with_numbers(model, store, neurons):
    reading.read(model, store, SITE, [neurons], "|".join(["the"] * (CONTEXT - 1)))
    with pytest.raises(ConfigError, match="13 tokens.*at most 11.*shorten it by 2"):
        reading.read(model, store, SITE, [neurons], "|".join(["the"] * (CONTEXT + 1)))


def test_no_token_and_no_tokenizer_are_answered(model, store, neurons):
    with pytest.raises(DataError, match="no token"):
        reading.read(model, store, SITE, [neurons], "|")
    model.tokenizer = None
    with pytest.raises(ConfigError, match="no tokenizer"):
        reading.read(model, store, SITE, [neurons], "the")


def test_strongest_ranks_by_share_of_each_units_own_maximum():
    values = np.array([[5.0, 1.0, 0.0, 2.0], [0.0, 3.0, 0.0, 0.0]])
    scale = np.array([50.0, 3.0, 9.0, 0.0])
    assert reading.strongest(values, scale, 9) == [1, 0]
    assert reading.strongest(values, scale, 9, token=0) == [1, 0]
    assert reading.strongest(values, scale, 1, token=1) == [1]


def test_the_basis_of_a_table(built, store):
    table = UnitTable.open(built.units(MODEL, SITE, "neurons"))
    assert reading.basis_of(table, store, built).n_units == 48
    control = UnitTable.open(built.units(MODEL, SITE, "random"))
    assert reading.basis_of(control, store, built).n_units == 24
    with pytest.raises((UnknownName, FormatError)):
        reading.basis_of(UnitTable.open(built.units(MODEL, SITE, LATENTS)), store, built)


def test_page_without_tables_or_text(workspace, show):
    assert "No unit table here yet" in shown(show("text"))


def test_page_waits_for_a_text(full, show):
    assert "the text goes nowhere else" in shown(show("text"))


def test_page_explains_a_missing_model(full, show):
    at = show("text", text="the king", bases="neurons")
    assert at.error
    assert MODEL in at.error[0].value


@pytest.fixture
def loaded(full, model, monkeypatch):
    monkeypatch.setattr("interp.models.load_model", lambda name, workspace: model)
    import streamlit

    streamlit.cache_resource.clear()
    yield full
    streamlit.cache_resource.clear()


def test_page_shows_top_units_with_links(loaded, show):
    at = show("text", text="the| king| <x>".replace(" <x>", " of"), bases="neurons")
    page = shown(at)
    assert "of its maximum" in page
    assert not at.error
    assert "tk-peak" in page


def test_page_ranks_by_one_token(loaded, show):
    at = show("text", text="the| king| of", bases="neurons", token="1:  king")
    assert at.selectbox(key="token").value == "1:  king"
    assert shown(at).count('class="tk-strip"') == 1


def test_page_answers_too_long_a_text(loaded, show):
    at = show("text", text="|".join(["the"] * 40), bases="neurons")
    assert "shorten it by" in at.error[0].value


def test_page_needs_a_basis(loaded, show):
    at = show("text", text="the")
    at.pills(key="bases").set_value([]).run()
    assert "Choose at least one basis" in shown(at)


# -- two rulers -----------------------------------------------------------------------------------


def test_bytes_of_one_character_are_one_token():
    assert rulers.groups(["a", " é", "", "", "b"]) == [[0], [1, 2, 3], [4]]
    assert rulers.groups(["", "a"]) == [[0], [1]]


def test_rows_are_those_that_fire_where_the_first_does():
    row = np.array([0.0, 1.0, 0.5])
    others = np.array([[1, 0, 0, 0], [0, 1, 0.2, 0], [0, 0, 1, 0.0]])
    assert rulers.alike(row, others, 3) == [1, 2]
    assert rulers.alike(row, others, 1) == [1]
    assert rulers.shares(np.array([[2.0, 3.0]]), np.array([4.0, 0.0])).tolist() == [[0.5, 0]]


def test_what_the_browser_gets_is_inert_and_complete():
    share = np.array([[0.1, 0.0, 0.9], [0.4, 0.0, 0.2], [0.8, 0.0, 0.0]])
    one = rulers.Measured(
        stem="m/s/neurons", noun="neuron", mark=theme.NEURONS, called=lambda unit: f"{unit}+",
        share=share,
    )  # fmt: skip
    shown = rulers.data(["\u202ea", "é", ""], [one.row(0)], {"neurons": one}, dark=False)
    assert shown["pieces"] == ["‹U+202E›a", "é"]
    assert shown["rows"] == [
        {"name": "neuron 0+", "address": "m/s/neurons/0", "basis": "neurons", "share": [0.1, 0.8]}
    ]
    # the second character's bytes count together: unit 0 reaches 0.8 there, unit 2 0.2
    assert shown["top"][0] == [["neurons", [[2, "2+", 0.9], [0, "0+", 0.1]]]]
    assert shown["top"][1] == [["neurons", [[0, "0+", 0.8], [2, "2+", 0.2]]]]
    json.dumps(shown, allow_nan=False)


def test_the_page_sends_a_neuron_above_what_fires_with_it(loaded, show, monkeypatch):
    sent = []
    monkeypatch.setattr(rulers, "draw", lambda shown, key: sent.append(shown))
    at = show("text", text="the| king| of", bases=["neurons", "random"])
    assert not at.error
    first, *others = sent[-1]["rows"]
    assert first["basis"] == "neurons"
    assert others == []  # in this model every word has a neuron of its own
    assert sent[-1]["pieces"] == ["the", " king", " of"]
    show("text", text="the| king| of", bases="neurons", ruler="neurons/2")
    assert sent[-1]["rows"][0]["address"] == f"{MODEL}/{SITE}/neurons/2"
    at = show("text", text="the| king| of", bases="neurons", ruler="neurons/48")
    assert "is no unit of neurons" in shown(at)


def test_the_model_of_a_store_is_loaded_from_where_it_was(own, show, model, monkeypatch):
    import streamlit

    manifest = own.store(MODEL) / "manifest.json"
    found = json.loads(manifest.read_text())
    found.setdefault("provenance", {}).setdefault("config", {})["model"] = "./my-model.gguf"
    manifest.write_text(json.dumps(found))
    asked = []

    def load(name, workspace):
        asked.append(name)
        return model

    monkeypatch.setattr("interp.models.load_model", load)
    monkeypatch.setattr("apps.contexts.check_match", lambda table, store: None)
    streamlit.cache_resource.clear()
    show("text", text="the| king", bases="neurons")
    streamlit.cache_resource.clear()
    assert asked == ["./my-model.gguf"]
