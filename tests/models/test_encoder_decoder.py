"""T5: sites of both halves, against transformers, which is told itself what its decoder reads."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from interp import capture
from interp.errors import UnknownName
from interp.models import LoadedModel, load_model
from interp.models.check import check_model
from tests.models.test_hooks import by_torch
from tests.models.tiny import TEXTS, save_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "t5"
    save_tiny("t5", folder)
    return folder


@pytest.fixture(scope="module")
def model(folder) -> LoadedModel:
    return load_model(str(folder), device="cpu")


@pytest.fixture(scope="module")
def reference(folder):
    from transformers import AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM.from_pretrained(folder, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def window() -> torch.Tensor:
    """Neither padding (0) nor an end (1)."""
    return torch.randint(2, 300, (2, 9), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def taught(reference, window):
    """What T5 itself computes when it is trained to write the window and its end."""
    labels = torch.cat([window, torch.ones(2, 1, dtype=torch.long)], dim=1)
    with torch.inference_mode():
        return reference(input_ids=window, labels=labels, output_hidden_states=True)


def test_the_sites_of_both_halves(model) -> None:
    common = ("resid_pre", "resid_post", "attn_z", "attn_out", "mlp_in", "mlp_post", "mlp_out")
    encoder = {f"enc.{kind}.{layer}" for kind in common for layer in range(3)}
    more = (*common, "cross_z", "cross_out")
    decoder = {f"dec.{kind}.{layer}" for kind in more for layer in range(2)}
    sites = model.sites()
    assert set(sites) == encoder | decoder
    assert (model.n_layers, model.pad, model.start, model.tokenizer.bos) == (5, 0, 0, None)
    assert [sites[f"enc.resid_pre.{layer}"].layer for layer in range(3)] == [0, 1, 2]
    assert [sites[f"dec.resid_pre.{layer}"].layer for layer in range(2)] == [3, 4]
    assert (sites["enc.mlp_post.1"].width, sites["dec.cross_z.1"].width) == (40, 24)
    assert model.site("encoder_blocks.1.hook_out") == sites["enc.resid_post.1"]
    assert model.site("decoder_blocks.0.cross_attn.hook_out") == sites["dec.cross_out.0"]
    assert [site.name for site in model.find_sites(["enc.resid_post.*"])] == [
        f"enc.resid_post.{layer}" for layer in range(3)
    ]
    assert len(model.find_sites(["dec.cross_z.0.h*"])) == 4
    with pytest.raises(UnknownName, match="did you mean: .*enc.resid_post.1"):
        model.site("resid_post.1")


def test_both_streams_equal_hidden_states_of_training(model, taught, window) -> None:
    found = model.activations(window, list(model.sites().values()))
    for prefix, hidden, first in (
        ("enc", taught.encoder_hidden_states, 0),
        ("dec", taught.decoder_hidden_states, 1),  # position 0 reads the start
    ):
        for layer in range(len(hidden) - 1):
            before, expected = found[f"{prefix}.resid_pre.{layer}"], hidden[layer][:, first:]
            torch.testing.assert_close(before, expected, rtol=1e-4, atol=1e-5)
        for layer in range(len(hidden) - 2):  # the last is behind the final norm
            after, expected = found[f"{prefix}.resid_post.{layer}"], hidden[layer + 1][:, first:]
            torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-5)
    assert {value.shape[:2] for value in found.values()} == {(2, 9)}


def test_the_logits_at_a_token_predict_the_next(model, taught, window) -> None:
    with torch.inference_mode():
        logits = model.forward(window)
    torch.testing.assert_close(logits, taught.logits[:, 1:], rtol=1e-4, atol=1e-5)
    ends = torch.cat([window[:, 1:], torch.ones(2, 1, dtype=torch.long)], dim=1)
    loss = torch.nn.functional.cross_entropy(
        torch.cat([taught.logits[:, :1], logits], 1).flatten(0, 1),
        torch.cat([window[:, :1], ends], 1).flatten(),
    )
    torch.testing.assert_close(loss, taught.loss)


def test_the_inside_of_blocks_equals_torch_hooks(model, reference, window) -> None:
    encoder, decoder = reference.encoder.block[1].layer, reference.decoder.block[1].layer

    def run(tokens):
        started = torch.nn.functional.pad(tokens, (1, 0))
        return reference(input_ids=tokens, decoder_input_ids=started)

    expected = {
        "enc.attn_z.1": (encoder[0].SelfAttention.o, "input"),
        "enc.attn_out.1": (encoder[0].SelfAttention.o, "output"),
        "enc.mlp_in.1": (encoder[1].DenseReluDense, "input"),
        "enc.mlp_post.1": (encoder[1].DenseReluDense.wo, "input"),
        "enc.mlp_out.1": (encoder[1].DenseReluDense.wo, "output"),
        "dec.attn_z.1": (decoder[0].SelfAttention.o, "input"),
        "dec.cross_z.1": (decoder[1].EncDecAttention.o, "input"),
        "dec.cross_out.1": (decoder[1].EncDecAttention.o, "output"),
        "dec.mlp_in.1": (decoder[2].DenseReluDense, "input"),
        "dec.mlp_post.1": (decoder[2].DenseReluDense.wo, "input"),
    }
    found = model.activations(window, [model.site(name) for name in expected])
    for name, (module, where) in expected.items():
        value = by_torch(run, module, where, window)
        value = value[:, 1:] if name.startswith("dec.") else value
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)
    (head,) = model.find_sites(["dec.cross_z.1.h2"])
    part = model.activations(window, [head])[head.name]
    assert torch.equal(part, found["dec.cross_z.1"][..., 12:18])


def test_stopping_early_changes_nothing_and_spares_the_decoder(model, window) -> None:
    ran = []
    everything = model.activations(window, list(model.sites().values()))
    names = [f"{block.path}.hook_out" for block in model.blocks]
    hooks = [(name, lambda x, hook: ran.append(hook.name)) for name in names]
    for site in model.sites().values():
        ran.clear()
        with model.bridge.hooks(fwd_hooks=hooks):
            alone = model.activations(window, [site])[site.name]
        assert torch.equal(alone, everything[site.name])
        assert ran == names[: site.layer + 1]


def test_substitution_on_either_side(model, reference, window) -> None:
    plain = model.forward(window)
    for site in model.find_sites(["enc.*.1", "dec.*.0", "dec.cross_z.1.h2"]):
        with model.substitute(site, lambda x: x):
            assert torch.equal(model.forward(window), plain)
        with model.substitute(site, torch.zeros_like):
            assert not torch.allclose(model.forward(window), plain)
            assert not model.activations(window, [site])[site.name].any()
    # The start token's own position is left as it is.
    first = model.site("dec.resid_pre.0")
    with torch.inference_mode(), model.substitute(first, torch.zeros_like):
        found = model.forward(window)
    embedded = reference.shared(torch.nn.functional.pad(window, (1, 0)))
    embedded[:, 1:] = 0
    with torch.inference_mode():
        expected = reference(input_ids=window, decoder_inputs_embeds=embedded).logits[:, 1:]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_padding_is_not_read(model, window) -> None:
    site, last = model.site("enc.resid_post.2"), model.site("dec.resid_post.1")
    alone = model.activations(window[1:, :5], [site, last])
    padded = window.clone()
    padded[1, 5:] = model.pad
    beside = model.activations(padded, [site, last])
    for name, value in alone.items():
        torch.testing.assert_close(beside[name][1:, :5], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "hook", "what"),
    [
        ("dec.resid_post.0", "decoder_blocks.0.hook_in", "the residual stream equals"),
        ("enc.resid_pre.2", "encoder_blocks.1.hook_in", "the residual stream equals"),
        ("dec.cross_out.1", "decoder_blocks.1.self_attn.hook_out", "block input + attention"),
        ("enc.mlp_post.0", "encoder_blocks.1.mlp.out.hook_in", "stopping early changes no"),
    ],
)
def test_a_site_that_reads_something_else_is_noticed(model, monkeypatch, name, hook, what) -> None:
    wrong = dataclasses.replace(model.site(name), hook=hook)
    monkeypatch.setitem(model._measured[0], name, wrong)
    failed = [check.name for check in check_model(model) if check.passed is False]
    assert any(each.startswith(what) for each in failed)


def test_it_has_no_lens(model) -> None:
    assert not model.has_lens
    site = model.site("dec.mlp_post.0")
    assert model.write_directions(site, torch.eye(site.width)) is None


def test_a_capture_keeps_rows_beside_their_tokens(model, tmp_path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(" ".join(TEXTS * 4))
    names = ["enc.resid_post.1", "dec.resid_post.0"]
    store = capture(
        model, names, str(text), out=tmp_path / "store", dtype="float32", context=16, heldout=0
    )
    start = int(np.flatnonzero(store.positions == 0)[1])
    assert store.positions[start + 15] == 15  # a full window, without BOS
    ids = torch.from_numpy(store.tokens[start : start + 16].astype(np.int64))[None]
    found = model.activations(ids, [model.site(name) for name in names])
    for name in names:
        rows = store.read(name, start, start + 16)
        np.testing.assert_allclose(rows, found[name][0].numpy(), rtol=1e-4, atol=1e-4)
    assert store.manifest.sinks["site"] == "enc.resid_post.1"
    neurons = capture(model, ["dec.mlp_post.1"], str(text), out=tmp_path / "other", context=16)
    assert neurons.manifest.sinks["site"] == "dec.resid_pre.1"


def test_a_decoder_start_of_its_own(folder, tmp_path, window) -> None:
    """Without one in its configuration T5 begins with padding."""
    for start in (7, None):
        copy = tmp_path / str(start)
        shutil.copytree(folder, copy)
        config = json.loads((copy / "config.json").read_text())
        config["decoder_start_token_id"] = start
        (copy / "config.json").write_text(json.dumps(config))
        model = load_model(str(copy), device="cpu")
        assert model.start == (start or 0)
        if start:
            assert all(check.passed is not False for check in check_model(model))
