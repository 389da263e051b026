"""The packaged SmolLM2-135M: it knows Paris, and our hooks read what transformers computes."""

import socket

import pytest
import torch
from safetensors.torch import load_file

from interp.models import fetch_model, known_models, load_model
from interp.models.check import check_model
from interp.workspace import Workspace
from tests.models.tiny import load_reference

NAME = "smollm2-135m"
PROMPT = "The Eiffel Tower is located in the city of"


@pytest.fixture(scope="module")
def model(real_workspace):
    return load_model(NAME, workspace=real_workspace, device="cpu")


@pytest.fixture(scope="module")
def reference(real_workspace):
    """The same weights, run by transformers alone."""
    return load_reference(real_workspace.model(NAME))


@pytest.fixture(scope="module")
def prompt(model) -> torch.Tensor:
    return torch.tensor([model.tokenizer.encode(PROMPT)])


def test_it_completes_the_sentence_with_paris(model, prompt) -> None:
    ids = prompt
    for _ in range(3):
        with torch.inference_mode():
            ids = torch.cat([ids, model.forward(ids)[:, -1:].argmax(-1)], dim=1)
    written = model.tokenizer.decode(ids[0, prompt.shape[1] :].tolist())
    assert written.startswith(" Paris")


def test_its_shape_and_sites(model) -> None:
    assert (model.n_layers, model.d_model, model.d_vocab) == (30, 576, 49152)
    assert model.dtype == torch.float32
    sites = model.sites()
    assert len(sites) == 30 * 7
    assert sites["mlp_post.9"].width == 1536
    assert sites["attn_z.9"].width == 576
    assert sites["resid_post.9"].hook == "blocks.9.hook_out"


def test_the_residual_stream_equals_hidden_states(model, reference, prompt) -> None:
    layers = (0, 9, 28)  # what transformers calls the 29th is already normed
    with torch.inference_mode():
        output = reference(prompt, output_hidden_states=True)
    found = model.activations(prompt, [model.site(f"resid_post.{layer}") for layer in layers])
    for layer in layers:
        expected = output.hidden_states[layer + 1]
        torch.testing.assert_close(
            found[f"resid_post.{layer}"], expected, rtol=1e-4, atol=1e-3, msg=str(layer)
        )
    with torch.inference_mode():
        logits = model.forward(prompt)
    torch.testing.assert_close(logits, output.logits, rtol=1e-4, atol=1e-3)


def test_bfloat16_agrees_with_float32_on_what_comes_next(model, real_workspace, prompt) -> None:
    half = load_model(NAME, workspace=real_workspace, device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in half.bridge.parameters()} == {torch.bfloat16}
    with torch.inference_mode():
        logits = half.forward(prompt)[0, -1]
    assert model.tokenizer.decode([int(logits.argmax())]) == " Paris"
    site = model.site("resid_post.14")
    exact = model.activations(prompt, [site])[site.name][0, 1:]
    found = half.activations(prompt, [site])[site.name][0, 1:]
    assert found.dtype == torch.bfloat16
    error = (found.float() - exact).norm(dim=1) / exact.norm(dim=1)
    assert 0 < error.median() < 0.02
    assert error.max() < 0.2
    assert half.digest == model.digest


def test_it_passes_every_check(model) -> None:
    found = check_model(model)
    assert [check for check in found if check.passed is not True] == []
    assert len(found) == 11


def test_the_lens_of_a_direction_equals_the_weights_on_disk(model, real_workspace) -> None:
    weights = load_file(real_workspace.model(NAME) / "model.safetensors")
    unembedding = weights.get("lm_head.weight", weights["model.embed_tokens.weight"]).double()
    norm = weights["model.norm.weight"].double()
    down = weights["model.layers.9.mlp.down_proj.weight"].double()
    neuron = 77
    site = model.site("mlp_post.9")
    direction = torch.nn.functional.one_hot(torch.tensor([neuron]), site.width).float()
    written = model.write_directions(site, direction)
    torch.testing.assert_close(written[0].double(), down[:, neuron], rtol=1e-6, atol=1e-7)
    expected = unembedding @ (norm * down[:, neuron])
    expected -= expected.mean()
    found = model.logit_lens(written)[0].double()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert set(found.topk(10).indices.tolist()) == set(expected.topk(10).indices.tolist())


@pytest.mark.parametrize("name", ["attn_z.4", "attn_out.4", "mlp_post.29", "mlp_out.29"])
def test_its_layers_write_to_the_residual_stream_directly(model, name) -> None:
    site = model.site(name)
    assert model.write_directions(site, torch.eye(site.width)[:2]) is not None


def test_its_tokenizer_has_no_hidden_specials(model) -> None:
    ids = model.tokenizer.encode("Hello world")
    vocabulary = model.tokenizer.vocabulary()
    assert [vocabulary[id] for id in ids] == [b"Hello", b" world"]
    assert len(vocabulary) == model.d_vocab
    assert vocabulary[model.tokenizer.bos] in (b"<|im_start|>", b"<|endoftext|>")
    assert model.tokenizer.bos in model.tokenizer.specials


def test_fetching_again_does_nothing_and_needs_no_network(
    real_workspace, tmp_path, monkeypatch
) -> None:
    """Not even the download has to be there any more."""
    folder = tmp_path / "models" / NAME
    folder.mkdir(parents=True)
    for file in real_workspace.model(NAME).iterdir():
        (folder / file.name).symlink_to(file)
    workspace = Workspace.at(tmp_path)

    def refuse(*args, **options):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert fetch_model(NAME, workspace) == folder
    assert sorted(tmp_path.iterdir()) == [tmp_path / "models"]
    assert list((tmp_path / "models").iterdir()) == [folder]
    assert (NAME, True) in [(name, ready) for name, _, ready in known_models(workspace)]
    # A folder is loaded without the network as well.
    assert load_model(NAME, workspace=workspace, device="cpu").name == NAME
