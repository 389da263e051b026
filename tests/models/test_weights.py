"""Weights that are not all there: transformers would draw random ones, we refuse."""

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp.errors import ConfigError, FormatError
from interp.models import load_model
from tests.models.tiny import load_reference, save_tiny


def doctor(folder: Path, change) -> None:
    """Rewrite the weights file after ``change`` has had its tensors."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def without(*endings: str):
    """Drops the tensors whose names end so, and makes sure that there were any."""

    def change(tensors) -> None:
        names = [name for name in tensors if name.endswith(endings)]
        assert names
        for name in names:
            del tensors[name]

    return change


@pytest.fixture
def folder(tmp_path):
    save_tiny("llama", tmp_path / "mine")
    return tmp_path / "mine"


def test_a_missing_tensor_is_named(folder) -> None:
    doctor(folder, without("layers.1.mlp.down_proj.weight"))
    with pytest.raises(FormatError, match="lack 1 tensor ") as found:
        load_model(str(folder), device="cpu")
    assert "(model.layers.1.mlp.down_proj.weight)" in str(found.value)
    assert str(folder) in str(found.value)
    assert "save or download the model again" in str(found.value)
    assert "\n" not in str(found.value)


def test_of_many_missing_tensors_the_first_are_named(folder) -> None:
    doctor(folder, without("_proj.weight"))
    with pytest.raises(
        FormatError, match=r"lack 21 tensors \(model\.layers.* and 16 more\), which"
    ):
        load_model(str(folder), device="cpu")


def test_layers_that_config_asks_for_and_the_file_lacks(folder) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(FormatError, match=r"lack 9 tensors \(model\.layers\.3\."):
        load_model(str(folder), device="cpu")


def test_layers_that_the_file_has_and_config_does_not_are_told(folder, caplog) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    with caplog.at_level(logging.WARNING, logger="interp"):
        assert load_model(str(folder), device="cpu").n_layers == 2
    (record,) = [r for r in caplog.records if r.name == "interp.models.weights"]
    assert "does not use 9 tensors (model.layers.2." in record.getMessage()


def test_an_unembedding_of_its_own_may_not_be_missing(folder) -> None:
    doctor(folder, without("lm_head.weight"))
    with pytest.raises(FormatError, match=r"lack 1 tensor \(lm_head\.weight\)"):
        load_model(str(folder), device="cpu")


@pytest.mark.parametrize("family", ["gpt2", "gemma"])
def test_a_tied_unembedding_is_not_missing(family, tmp_path) -> None:
    save_tiny(family, tmp_path)
    assert not any(name.startswith("lm_head") for name in load_file(tmp_path / "model.safetensors"))
    model = load_model(str(tmp_path), device="cpu")
    tokens = torch.arange(9)[None]
    with torch.inference_mode():
        expected = load_reference(tmp_path)(tokens).logits
        torch.testing.assert_close(model.forward(tokens), expected, rtol=1e-4, atol=1e-4)
    doctor(tmp_path, without("wte.weight", "embed_tokens.weight"))
    with pytest.raises(FormatError, match="weights of .* lack "):
        load_model(str(tmp_path), device="cpu")


def test_transformers_itself_says_nothing_on_top(folder, capfd) -> None:
    doctor(folder, without("layers.1.mlp.down_proj.weight"))
    with pytest.raises(FormatError):
        load_model(str(folder), device="cpu")
    assert "LOAD REPORT" not in "".join(capfd.readouterr())
    assert logging.getLogger("transformers.modeling_utils").level == logging.NOTSET


# -- encoders ------------------------------------------------------------------------------------


def test_an_encoder_may_lack_its_head_but_then_has_no_logits(tmp_path) -> None:
    save_tiny("bert", tmp_path)
    whole = load_model(str(tmp_path), device="cpu")
    doctor(tmp_path, lambda tensors: [tensors.pop(k) for k in [*tensors] if k.startswith("cls.")])
    model = load_model(str(tmp_path), device="cpu")
    assert (whole.headless, model.headless) == (False, True)
    tokens = torch.arange(1, 10)[None]
    for name, site in model.sites().items():
        found, expected = (m.activations(tokens, [site])[name] for m in (model, whole))
        assert torch.equal(found, expected)
    assert whole.forward(tokens).shape == (1, 9, 300)
    for layer in (None, 3):
        with pytest.raises(ConfigError, match="saved without a language-model head.*activations"):
            model.forward(tokens, stop_at_layer=layer)
    assert model.forward(tokens, stop_at_layer=2).shape == (1, 9, 24)


def test_an_encoder_may_not_lack_a_layer(tmp_path) -> None:
    save_tiny("bert", tmp_path)
    doctor(tmp_path, without("layer.1.output.dense.bias"))
    with pytest.raises(FormatError, match=r"lack 1 tensor \(bert\.encoder\.layer\.1\.output"):
        load_model(str(tmp_path), device="cpu")
