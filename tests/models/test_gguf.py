"""GGUF files: read as llama.cpp's converter writes them, refused where they would be misread."""

import gguf
import numpy as np
import pytest
import torch
from einops import rearrange
from safetensors.numpy import load_file

from interp.cli import main
from interp.errors import ConfigError, FormatError, UnknownName
from interp.features.table import UnitTable
from interp.models import load_model
from interp.models.check import check_model
from tests.models.gguf_files import save_llama, write_gguf

F32, Q8_0, Q4_0 = (gguf.GGMLQuantizationType[name] for name in ("F32", "Q8_0", "Q4_0"))


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "llama"
    save_llama(folder)
    return folder


@pytest.fixture
def file(original, tmp_path):
    write_gguf(original, tmp_path / "tiny.gguf")
    return tmp_path / "tiny.gguf"


def test_an_unquantised_file_computes_what_the_original_does(file, original, workspace) -> None:
    model, expected = load_model(str(file), device="cpu"), load_model(str(original), device="cpu")
    assert model.name == "tiny"
    tokens = torch.randint(0, 300, (2, 12), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.forward(tokens), expected.forward(tokens))
    text = "To be, or not to be — né ☃"
    ids = model.tokenizer.encode(text)
    assert ids == expected.tokenizer.encode(text)
    assert (model.tokenizer.bos, model.tokenizer.decode(ids)) == (0, text)
    assert model.tokenizer.vocabulary()[:300] == expected.tokenizer.vocabulary()
    assert all(check.passed for check in check_model(model))


@pytest.mark.parametrize(("kind", "steps"), [(Q8_0, 127), (Q4_0, 8)])
def test_quantised_weights_are_off_by_no_more_than_their_step(
    kind, steps, original, tmp_path, workspace
) -> None:
    """A block of 32 shares one step, its largest number over 127 or 8; 4 bits lack the last one."""
    write_gguf(original, tmp_path / "tiny.gguf", kind)
    load_model(str(tmp_path / "tiny.gguf"), device="cpu")
    (converted,) = workspace.root.glob("models/*/model.safetensors")
    before, after = load_file(original / "model.safetensors"), load_file(converted)
    assert before.keys() == after.keys()
    for name, weights in before.items():
        if weights.ndim == 1:
            np.testing.assert_array_equal(after[name], weights)
            continue
        old, new = (
            rearrange(each, "out (block n) -> out block n", n=32) for each in (weights, after[name])
        )
        step = np.abs(old).max(axis=-1, keepdims=True) / steps
        worst = np.abs(old - new).max(axis=-1, keepdims=True) / step
        assert worst.max() < (0.57 if kind == Q8_0 else 1.01)
        assert worst.min() > 0.1  # it really was quantised
        assert (new[0, 0] / step[0, 0]).round(1).max() <= steps


def test_it_is_dequantised_once_and_again_when_its_bytes_change(
    file, original, workspace, monkeypatch
) -> None:
    import interp.models.dequantise as module

    convert, calls = module.convert, []
    monkeypatch.setattr(module, "convert", lambda *a: (calls.append(a), convert(*a)))
    first = load_model(str(file), device="cpu")
    for place in (file, file.parent):  # a folder of one file means that file
        again = load_model(str(place), device="cpu")
        assert (again.name, again.digest) == (first.name, first.digest)
    assert len(calls) == 1
    write_gguf(original, file, Q8_0)
    other = load_model(str(file), device="cpu")
    assert len(calls) == 2
    assert (other.name, other.digest != first.digest) == ("tiny", True)


@pytest.mark.slow
def test_its_store_knows_where_the_model_is(file, workspace, monkeypatch) -> None:
    """The model's name is the file's stem, which alone would not find it again."""
    (file.parent / "text.txt").write_text("To be, or not to be. " * 40)
    monkeypatch.chdir(file.parent)
    capture = ["capture", "./tiny.gguf", "mlp_out.1", "--corpus", "text.txt", "--context", "16"]
    assert main([*capture, "--device", "cpu"]) == 0
    assert main(["extract", "tiny", "mlp_out.1", "--bases", "neurons"]) == 0
    table = UnitTable.open(workspace.units("tiny", "mlp_out.1", "neurons"))
    assert table.has_logits
    assert len(table.promoted(0)) > 0


def refused(path) -> tuple[type, str]:
    with pytest.raises((FormatError, ConfigError)) as found:
        load_model(str(path), device="cpu")
    assert str(path) in str(found.value)
    assert "\n" not in str(found.value)
    return type(found.value), str(found.value)


DAMAGES = {
    "empty": (lambda whole: b"", "is no GGUF file"),
    "foreign": (lambda whole: b"GGML" + whole[4:], "is no GGUF file"),
    "cut in its header": (lambda whole: whole[:1000], "is damaged .*download it again"),
    "cut in its tensors": (lambda whole: whole[: len(whole) // 2], "is damaged"),
    "cut at the end": (lambda whole: whole[:-100], "is damaged"),
    "newer": (lambda whole: whole[:4] + b"\x09\0\0\0" + whole[8:], "is damaged .*version 9"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(damage, file, workspace) -> None:
    import re

    change, message = DAMAGES[damage]
    file.write_bytes(change(file.read_bytes()))
    kind, text = refused(file)
    assert kind is FormatError
    assert re.search(message, text)
    assert not list(workspace.root.glob("models/*/model.json"))


REFUSED = {
    "unknown architecture": ({"architecture": "ctrl"}, ConfigError, "architecture ctrl is not"),
    "a part of it": ({"leave_out": "blk.1.ffn_up.weight"}, FormatError, "holds 94,016 weights"),
    "a tensor too many": (
        {"extra": {"rope_freqs.weight": np.ones(8, np.float32)}},
        FormatError,
        "holds 100,168 weights, but .* 100,160",
    ),
    "stretched positions": ({"scaling": 4.0}, ConfigError, "rope.scaling.*would be wrong"),
    "no tokenizer": ({"tokenizer": False}, ConfigError, "cannot read .*tokenizer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_files_that_transformers_would_misread(case, original, tmp_path, workspace) -> None:
    import re

    options, expected, message = REFUSED[case]
    write_gguf(original, tmp_path / "odd.gguf", **options)
    kind, text = refused(tmp_path / "odd.gguf")
    assert kind is expected
    assert re.search(message, text)
    assert not list(workspace.root.glob("models/*/model.json"))


def test_names_that_mean_no_file(file, original, workspace) -> None:
    with pytest.raises(UnknownName, match="A local folder, a GGUF file or"):
        load_model("some/where.gguf")
    write_gguf(original, file.with_name("other.gguf"))
    kind, text = refused(file.parent)
    assert kind is ConfigError
    assert "holds 2 GGUF files; name one, such as" in text
    with pytest.raises(ConfigError, match="on this disk and has no revisions; leave main out"):
        load_model(str(file), revision="main")
