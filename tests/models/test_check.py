"""The self-test passes for every family we know, and each of its checks can fail."""

import dataclasses
import json
from contextlib import contextmanager

import pytest
import torch

from interp.cli import main
from interp.models import LoadedModel, Tokenizer, load_model
from interp.models.check import Check, check_model
from interp.models.registry import DTYPES
from tests.models.plays import CHECKPOINTS
from tests.models.test_weights import doctor
from tests.models.tiny import save_tiny

STREAM = "the residual stream equals the framework's"
LOGITS = "the logits equal the framework's"
SUM = "block input + attention + MLP = block output"
STOP = "stopping early changes no activation"
BLOCKS = "stopping early runs no further block"
QUIET = "reading changes no logit and leaves no hook"
PADDING = "padding changes no activation"
LENS = "the logit lens at the end is the logits"
DTYPE = "weights and activations have the recorded dtype"
TEXT = "the tokenizer gives its text back"
BOS = "BOS is the model's own"
ALL = [STREAM, LOGITS, SUM, STOP, BLOCKS, QUIET, PADDING, LENS, DTYPE, TEXT, BOS]


def outcomes(model: LoadedModel) -> dict[str, Check]:
    return {check.name: check for check in check_model(model)}


def failed(model: LoadedModel) -> list[str]:
    return [check.name for check in check_model(model) if check.passed is False]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_three_families_pass_every_check(tiny, dtype) -> None:
    model = tiny.model if dtype == "float32" else load_model(str(tiny.folder), dtype=dtype)
    found = outcomes(model)
    assert list(found) == ALL
    for check in found.values():
        assert check.passed is True, check
        assert 0 <= check.measured <= check.tolerance
        assert check.remedy == ""


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gemma3", "olmo2", "bloom"])
def test_families_with_sums_of_their_own_pass(family, tmp_path) -> None:
    save_tiny(family, tmp_path)
    found = outcomes(load_model(str(tmp_path), device="cpu"))
    assert [check.name for check in found.values() if not check.passed] == []


@pytest.mark.parametrize("family", ["qwen2", "qwen3"])
def test_families_with_biases_or_norms_inside_attention_pass(family, tmp_path) -> None:
    save_tiny(family, tmp_path)
    assert all(check.passed for check in check_model(load_model(str(tmp_path), device="cpu")))


@pytest.mark.parametrize("family", ["t5", "flan-t5"])
def test_an_encoder_decoder_passes_what_applies_to_it(family, tmp_path) -> None:
    save_tiny(family, tmp_path)
    for dtype in ("float32", "bfloat16") if family == "t5" else ("float32",):
        found = outcomes(load_model(str(tmp_path), device="cpu", dtype=dtype))
        assert list(found) == ALL
        assert {name for name, check in found.items() if check.passed is None} == {LENS, BOS}
        assert all(check.passed is not False for check in found.values())
    assert "there is no lens" in found[LENS].remedy


def test_an_encoder_passes_what_applies_to_it(tmp_path) -> None:
    save_tiny("bert", tmp_path)
    found = outcomes(load_model(str(tmp_path), device="cpu"))
    assert {name for name, check in found.items() if check.passed is None} == {LENS, BOS}
    assert all(check.passed is not False for check in found.values())
    assert "more than a norm" in found[LENS].remedy
    doctor(tmp_path, lambda tensors: [tensors.pop(k) for k in [*tensors] if k.startswith("cls.")])
    found = outcomes(load_model(str(tmp_path), device="cpu"))
    assert {name for name, check in found.items() if check.passed is None} == {LOGITS, LENS, BOS}
    assert all(check.passed is not False for check in found.values())


def test_a_model_trained_here_passes(trained) -> None:
    for step in (CHECKPOINTS[0], CHECKPOINTS[-1]):
        model = load_model(f"shakespeare-1l@{step}", workspace=trained, device="cpu")
        found = outcomes(model)
        assert [name for name, check in found.items() if check.passed is None] == [LOGITS]
        assert all(check.passed is not False for check in found.values())


# -- each check can fail --------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path) -> LoadedModel:
    """One to be spoilt."""
    save_tiny("llama", tmp_path / "spoilt")
    return load_model(str(tmp_path / "spoilt"), device="cpu")


def rewire(model: LoadedModel, name: str, hook: str) -> None:
    """Let a site's name mean another hook."""
    model._measured[0][name] = dataclasses.replace(model.site(name), hook=hook)


def test_a_site_that_reads_the_wrong_stream(model) -> None:
    rewire(model, "resid_post.1", "blocks.1.hook_in")
    assert STREAM in failed(model)


def test_a_site_that_lies_behind_the_stop(model) -> None:
    rewire(model, "attn_out.1", "blocks.2.attn.hook_out")
    assert STOP in failed(model)


@pytest.mark.parametrize("hook", ["blocks.1.ln2.hook_out", "blocks.0.mlp.hook_out"])
def test_a_layer_that_is_not_what_is_added(model, hook) -> None:
    rewire(model, "mlp_out.1", hook)
    found = outcomes(model)
    assert found[SUM].passed is False
    assert found[SUM].measured > 0.01
    assert "use resid_pre and resid_post alone" in found[SUM].remedy
    assert found[STREAM].passed


def test_weights_changed_after_loading(model) -> None:
    with torch.no_grad():
        model.bridge.blocks[2].mlp.out.original_component.weight.mul_(1.1)
    assert failed(model) == [LOGITS]
    with torch.no_grad():
        model.bridge.blocks[0].mlp.out.original_component.weight.mul_(1.1)
    assert set(failed(model)) == {STREAM, LOGITS}


def test_a_model_that_does_not_stop(model, monkeypatch) -> None:
    monkeypatch.setattr("interp.models.base._stop", lambda activation, hook: None)
    found = outcomes(model)
    assert [name for name, check in found.items() if check.passed is False] == [BLOCKS]
    assert found[BLOCKS].measured == 2


def test_stopping_that_changes_something(model, monkeypatch) -> None:
    whole = model.activations

    def shifted(tokens, sites):
        read = whole(tokens, sites)
        few = len(sites) < len(model.sites())
        return {name: value + (0.01 if few else 0) for name, value in read.items()}

    monkeypatch.setattr(model, "activations", shifted)
    assert STOP in failed(model)


def test_a_model_that_draws_lots(model) -> None:
    model.bridge.blocks[1].mlp.register_forward_hook(lambda *a: a[-1] + torch.randn_like(a[-1]))
    assert QUIET in failed(model)


def test_a_hook_left_behind(model, monkeypatch) -> None:
    run = model.run

    def careless(*args, **options):
        model.bridge.hook_dict["blocks.0.hook_in"].add_hook(lambda x, hook: None)
        return run(*args, **options)

    monkeypatch.setattr(model, "run", careless)
    found = outcomes(model)
    assert [name for name, check in found.items() if check.passed is False] == [QUIET]


def test_an_encoder_that_attends_to_padding(tmp_path) -> None:
    save_tiny("bert", tmp_path)
    model = load_model(str(tmp_path), device="cpu")
    assert PADDING not in failed(model)
    forward = type(model.bridge).forward

    def unmasked(*args, attention_mask=None, **options):
        return forward(model.bridge, *args, **options)

    model.bridge.forward = unmasked
    assert failed(model) == [PADDING]


def test_a_lens_through_another_norm(model) -> None:
    model.bridge.ln_final.register_forward_hook(lambda *a: a[-1] * torch.linspace(-1, 1, 24))
    assert LENS in failed(model)


def test_weights_of_two_dtypes(model) -> None:
    block = model.bridge.blocks[1]
    block.ln1.original_component.double()
    found = outcomes(model)
    assert found[DTYPE].passed is False
    assert "are not float32 as recorded" in found[DTYPE].remedy


def test_another_models_tokenizer(model, trained) -> None:
    other = load_model("shakespeare-1l", workspace=trained, device="cpu").tokenizer
    model.tokenizer = Tokenizer(other._backend, bos=1)
    assert BOS in failed(model)

    class Shifted(Tokenizer):
        def decode(self, ids):
            return super().decode([(id + 1) % 300 for id in ids])

    model.tokenizer = Shifted(other._backend, bos=0)
    assert TEXT in failed(model)


def test_activations_that_are_not_numbers(model) -> None:
    with torch.no_grad():
        model.bridge.blocks[0].mlp.out.original_component.weight.fill_(torch.nan)
    found = outcomes(model)
    assert not found[STREAM].passed
    assert found[STREAM].measured == float("inf")


# -- the command line -----------------------------------------------------------------------------


def test_the_command_prints_a_table(tiny, capsys) -> None:
    assert main(["models", "check", str(tiny.folder), "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["check", "result", "measured", "at", "most", "remedy"]
    for name, line in zip(ALL, lines[1:], strict=False):
        assert line.startswith(name)
        assert " ok " in line
    assert lines[-1].endswith("passed")


def test_the_command_as_json_and_in_another_dtype(tiny, capsys) -> None:
    place = str(tiny.folder)
    assert main(["models", "check", place, "--model-dtype", "bfloat16", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [check["name"] for check in found["checks"]] == ALL
    assert found["dtype"] == "bfloat16"
    assert "bfloat16" in DTYPES


@contextmanager
def spoilt(monkeypatch):
    monkeypatch.setattr("interp.models.base._stop", lambda activation, hook: None)
    yield
    monkeypatch.undo()


def test_a_failed_check_is_an_exit_code(tiny, capsys, monkeypatch) -> None:
    command = ["models", "check", str(tiny.folder), "--device", "cpu"]
    with spoilt(monkeypatch):
        assert main(command) == 1
        printed = capsys.readouterr()
        (line,) = [each for each in printed.err.splitlines() if each.startswith("interp models:")]
        assert "1 of 11 checks" in line
        assert BLOCKS in line
        assert "captures slower" in line
        assert "FAILED" in printed.out
        assert main([*command, "--json"]) == 1
        found = json.loads(capsys.readouterr().out)
        assert [c["name"] for c in found["checks"] if c["passed"] is False] == [BLOCKS]


def test_the_command_needs_a_name(capsys) -> None:
    assert main(["models", "check"]) == 2
    assert "needs a NAME" in capsys.readouterr().err
