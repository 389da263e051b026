"""A folder that is damaged, foreign or newer gives one sentence that names the file."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from interp.errors import FormatError
from interp.sae import TopK, load_dictionary, save_dictionary
from tests.sae.shared import ORIGIN


@pytest.fixture
def folder(tmp_path):
    return save_dictionary(TopK(latents=12, k=2).dictionary(4, ORIGIN), tmp_path / "d")


def edit(folder, **changes) -> None:
    values = json.loads((folder / "config.json").read_text())
    values.update(changes)
    values = {key: value for key, value in values.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "describes no dictionary"),
        ({"version": 99}, "has version 99, this interp reads 1"),
        ({"state": "training"}, "has not finished"),
        ({"kind": "topkk"}, "unknown architecture 'topkk'; did you mean"),
        ({"kind": None}, "malformed"),
        ({"d_in": None}, "malformed"),
        ({"d_in": "4"}, "malformed"),
        ({"architecture": {"latents": 12, "kk": 2}}, "unknown setting of TopK 'kk'"),
        ({"architecture": {"latents": 12, "k": 99}}, "k=99 is more than"),
        ({"architecture": {"latents": 13, "k": 2}}, r"holds W_dec \[12, 4\].*W_dec \[13, 4\]"),
        ({"origin": {"model": "m"}}, "config.json"),
    ],
)
def test_a_config_that_does_not_fit_is_named(folder, changes, message) -> None:
    edit(folder, **changes)
    with pytest.raises(FormatError, match=message):
        load_dictionary(folder)


def test_weights_that_do_not_fit_are_named(folder) -> None:
    weights = folder / "weights.safetensors"
    tensors = load_file(weights)
    save_file({**tensors, "b_enc": torch.full((12,), float("nan"))}, weights)
    with pytest.raises(FormatError, match=r"weights.safetensors holds NaN"):
        load_dictionary(folder)
    del tensors["b_enc"]
    save_file(tensors, weights)
    with pytest.raises(FormatError, match=r"weights.safetensors holds W_dec"):
        load_dictionary(folder)
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(FormatError, match=r"weights.safetensors is damaged"):
        load_dictionary(folder)
    weights.unlink()
    with pytest.raises(FormatError, match=r"weights.safetensors does not exist"):
        load_dictionary(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FormatError, match=r"config.json does not exist"):
        load_dictionary(folder)
