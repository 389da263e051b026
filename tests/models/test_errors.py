"""One sentence names what is wrong and one the remedy, before anything is computed."""

import json

import pytest
import torch

from interp.errors import AssetError, ConfigError, DataError, FormatError, UnknownName
from interp.models import fetch_model, load_model
from tests.models.tiny import save_tiny


def test_an_unknown_model_lists_near_names(workspace) -> None:
    with pytest.raises(UnknownName, match=r"unknown model 'smollm2-136m'; did you mean: smollm2-1"):
        load_model("smollm2-136m")
    with pytest.raises(
        UnknownName, match=r"known: all-minilm-l6-v2, shakespeare-1l, smollm2-135m\. A local folder"
    ):
        load_model("qqq")
    with pytest.raises(UnknownName, match="unknown packaged model 'qqq'"):
        fetch_model("qqq", workspace)


def test_a_known_model_that_is_not_there_names_the_command(workspace) -> None:
    for name in ("smollm2-135m", "shakespeare-1l", "shakespeare-1l@0"):
        get = f"run `interp models get {name.partition('@')[0]}`"
        with pytest.raises(AssetError, match=get):
            load_model(name)
    assert not workspace.root.exists()  # and nothing was written


def test_checkpoints_of_a_model_without_any(real_workspace) -> None:
    with pytest.raises(ConfigError, match="smollm2-135m has no checkpoints; load smollm2-135m"):
        load_model("smollm2-135m@3", workspace=real_workspace)


def test_an_unknown_dtype(tiny) -> None:
    with pytest.raises(UnknownName, match="unknown dtype 'bfloat61'; did you mean: bfloat16"):
        load_model(str(tiny.folder), dtype="bfloat61")


def test_an_unknown_device(tiny) -> None:
    with pytest.raises(ConfigError, match="unknown device 'cdua'; give cpu or cuda"):
        load_model(str(tiny.folder), device="cdua")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="device cuda:0 needs a GPU .* use cpu"):
            load_model(str(tiny.folder), device="cuda:0")


def test_a_hub_name_offline(workspace) -> None:
    with pytest.raises(AssetError, match="nobody/nothing is neither cached nor reachable") as found:
        load_model("nobody/nothing")
    assert "give the path of a local copy" in str(found.value)
    assert "\n" not in str(found.value)


def test_a_folder_without_a_model(tmp_path) -> None:
    for name in ("empty", "text"):
        (tmp_path / name).mkdir()
    (tmp_path / "text" / "notes.txt").write_text("no model")
    for name in ("empty", "text"):
        with pytest.raises(FormatError, match="holds no model that transformers loads") as found:
            load_model(str(tmp_path / name))
        assert str(tmp_path / name) in str(found.value)
        assert "\n" not in str(found.value)


DAMAGES = {
    "config is cut": ("config.json", b"{", FormatError, "not a valid JSON file"),
    "config is empty": ("config.json", b"{}", ConfigError, "model_type"),
    "family unknown": ("config.json", b'{"model_type": "no-such"}', ConfigError, "no-such"),
    "weights missing": ("model.safetensors", None, FormatError, "no file named model.safetensors"),
    "weights foreign": ("model.safetensors", b"not a tensor", FormatError, "weights of .* damaged"),
    "tokenizer cut": ("tokenizer.json", b"{", ConfigError, "cannot be loaded and hooked"),
    "tokenizer foreign": ("tokenizer.json", b"{}", ConfigError, "cannot be loaded and hooked"),
    "tokenizer missing": ("tokenizer.json", None, FormatError, "has no tokenizer.json; save"),
}


@pytest.fixture
def folder(tmp_path):
    """A model of one's own, to be damaged."""
    save_tiny("llama", tmp_path / "mine")
    return tmp_path / "mine"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_is_named_with_what_is_wrong(folder, damage) -> None:
    file, content, kind, message = DAMAGES[damage]
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(kind, match=message) as found:
        load_model(str(folder), device="cpu")
    assert str(folder) in str(found.value)
    assert "\n" not in str(found.value)


def test_a_cut_weights_file_is_damaged(folder) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(FormatError, match="weights of .* damaged .*; get them again"):
        load_model(str(folder), device="cpu")


def change_config(folder, **settings) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def test_weights_of_another_shape(folder) -> None:
    change_config(folder, intermediate_size=48)
    with pytest.raises(FormatError, match="are not those of its config.json"):
        load_model(str(folder), device="cpu")


def test_a_model_that_reads_no_text(folder) -> None:
    change_config(folder, model_type="vit", architectures=["ViTForImageClassification"])
    with pytest.raises(ConfigError, match="is no language model"):
        load_model(str(folder), device="cpu")


def test_an_architecture_that_cannot_be_hooked(folder) -> None:
    """transformers knows CTRL (2019), TransformerLens does not."""
    change_config(folder, model_type="ctrl", architectures=["CTRLLMHeadModel"])
    with pytest.raises(ConfigError, match="cannot be loaded and hooked: Could not determine"):
        load_model(str(folder), device="cpu")


def test_an_unknown_site_lists_near_names(tiny) -> None:
    with pytest.raises(UnknownName, match=r"unknown site of tiny-\w+ 'resid_post.9'; did you mean"):
        tiny.model.site("resid_post.9")
    with pytest.raises(UnknownName, match="resid_post.1"):
        tiny.model.site("resid_posts.1")
    with pytest.raises(UnknownName, match=r"known: attn_out\.0.*All: interp models sites tiny-"):
        tiny.model.site("x")


def test_a_window_longer_than_the_context(tiny) -> None:
    site = tiny.model.site("resid_post.0")
    longest = torch.zeros((1, tiny.model.n_ctx), dtype=torch.long)
    assert tiny.model.n_ctx == 32
    assert tiny.model.activations(longest, [site])[site.name].shape == (1, 32, 24)
    longer = torch.zeros((1, 33), dtype=torch.long)
    with pytest.raises(DataError, match="reads at most 32 tokens at once, got 33; use a shorter"):
        tiny.model.activations(longer, [site])
    with pytest.raises(DataError, match="got 33"):
        tiny.model.forward(longer)
