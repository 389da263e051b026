"""A corpus, a tokenizer and a model for every test of this folder."""

import pytest

from interp import capture
from interp.models import LoadedModel
from interp.store import ActivationStore
from tests.capture.tiny import SETTINGS, SITES, learn_tokenizer, tiny_model, write_texts


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("corpus") / "texts")


@pytest.fixture(scope="module")
def tokenizer(texts):
    return learn_tokenizer(texts, texts.parent / "tokenizer.json")


@pytest.fixture
def model(tokenizer) -> LoadedModel:
    return tiny_model(tokenizer)


@pytest.fixture
def captured(model, texts, tmp_path):
    """Captures, each in a folder of its own unless one is given."""
    made = iter(range(100))

    def run(sites=SITES, *, by=model, corpus=texts, out=None, **settings) -> ActivationStore:
        out = out or tmp_path / f"store-{next(made)}"
        corpus = str(corpus) if not isinstance(corpus, str) else corpus
        return capture(by, sites, corpus, out=out, **(SETTINGS | settings))

    return run
