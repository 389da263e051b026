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
    with pytest.raises(UnknownName, match=r"known: shakespeare-1l, smollm2-135m\. A local folder"):
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


def test_an_unknown_dtype_and_an_unknown_device(tiny) -> None:
    with pytest.raises(UnknownName, match="unknown dtype 'bfloat61'; did you mean: bfloat16"):
        load_model(str(tiny.folder), dtype="bfloat61")
    with pytest.raises(ConfigError, match="device"):
        load_model(str(tiny.folder), device="cdua")


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


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("config.json", b"{"),
        ("config.json", b"{}"),
        ("config.json", b'{"model_type": "no-such-model"}'),
        ("model.safetensors", None),
        ("model.safetensors", b"not a tensor"),
        ("tokenizer.json", b"{"),
    ],
)
def test_a_damaged_folder_is_named(tmp_path, file, damage) -> None:
    folder = tmp_path / "llama"
    save_tiny("llama", folder)
    if damage is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(damage)
    with pytest.raises((FormatError, ConfigError)) as found:
        load_model(str(folder), device="cpu")
    assert str(folder) in str(found.value) or "llama" in str(found.value)
    assert "\n" not in str(found.value)


def test_an_architecture_that_cannot_be_hooked(tmp_path) -> None:
    folder = tmp_path / "llama"
    save_tiny("llama", folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "vit", "architectures": ["ViTForImageClassification"]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="cannot be hooked"):
        load_model(str(folder), device="cpu")


def test_a_folder_without_a_tokenizer(tmp_path) -> None:
    folder = tmp_path / "llama"
    save_tiny("llama", folder)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises((FormatError, ConfigError), match="tokenizer"):
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
