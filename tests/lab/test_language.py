"""The small language models of the lab: same text, other seeds and depths."""

from pathlib import Path

import numpy as np
import pytest
import torch

import interp.store
from interp.capture import capture
from interp.errors import ConfigError, DataError, UnknownName
from interp.lab.toys.language import LanguageConfig, before_and_after, find_text

SOURCE = str(Path(interp.store.__file__).parent)
"""A folder of this package: text enough."""
TINY = {"vocabulary": 400, "n_ctx": 16, "d_model": 16, "d_mlp": 24, "steps": 4, "windows": 4}


def test_models_of_other_seeds_read_the_same_tokens(workspace):
    text = find_text(SOURCE)
    pairs = [before_and_after(LanguageConfig(seed=seed, layers=2, **TINY), text) for seed in (0, 1)]
    stores = [
        capture(model, ["resid_post.1", "mlp_post.0"], text, tokens=2000, context=16)
        for model in (pairs[0][0], pairs[0][1], pairs[1][1])
    ]
    for other in stores[1:]:
        np.testing.assert_array_equal(stores[0].tokens, other.tokens)
        rows = [store.read("mlp_post.0", 0, 50) for store in (stores[0], other)]
        assert not np.array_equal(*rows)
    before, after = pairs[0]
    assert (before.name, after.name) == ("toy-2l-s0@0", "toy-2l-s0@4")
    assert len({model.digest for pair in pairs for model in pair}) == 4
    untrained = LanguageConfig(seed=0, layers=2, **TINY).build().state_dict()
    for name, weights in before.bridge.state_dict().items():
        assert torch.equal(weights, untrained[name]), name


def test_texts_too_small_and_unknown_are_refused(workspace, tmp_path):
    with pytest.raises(UnknownName, match="corpus"):
        find_text("no-such-corpus")
    (tmp_path / "one.txt").write_text("Too little to learn anything from at all.")
    with pytest.raises(DataError, match="too small"):
        before_and_after(LanguageConfig(**TINY), find_text(str(tmp_path / "one.txt")))
    with pytest.raises(ConfigError, match="layers"):
        LanguageConfig(layers=0)
