"""Your text: the units on a text of one's own, and every way in which it cannot be read."""

import numpy as np
import pytest
import torch

from apps import reading
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
