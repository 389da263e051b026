"""A corpus, a tokenizer and a model for every test of this folder."""

from pathlib import Path

import pytest

from interp import capture
from interp.models import LoadedModel
from interp.models.bpe import BOS_TEXT
from interp.store import ActivationStore
from tests.capture.tiny import (
    CONTEXT,
    SETTINGS,
    SITES,
    VOCABULARY,
    learn_tokenizer,
    tiny_model,
    write_texts,
)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("corpus") / "texts")


@pytest.fixture(scope="module")
def tokenizer(texts):
    return learn_tokenizer(texts, texts.parent / "tokenizer.json")


@pytest.fixture(scope="module")
def saved(texts, tokenizer, tmp_path_factory) -> Path:
    """A model folder such as a user has."""
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("my models") / "llama"
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer), bos_token=BOS_TEXT)
    fast.save_pretrained(folder)
    return folder


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
