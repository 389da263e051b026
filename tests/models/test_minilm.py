"""The packaged all-MiniLM-L6-v2, an encoder without a head, against transformers' own BertModel."""

import pytest
import torch

from interp.errors import ConfigError
from interp.models import fetch_model, known_models, load_model
from interp.models.check import check_model

NAME = "all-minilm-l6-v2"
TEXTS = (
    "A man is eating a piece of bread.",
    "Somebody has a slice of toast for a meal.",
    "The stock exchange fell sharply on Tuesday.",
)


@pytest.fixture(scope="module")
def place(real_workspace):
    """The workspace with the model fetched into it on first use (85 MB)."""
    fetch_model(NAME, real_workspace)
    return real_workspace


@pytest.fixture(scope="module")
def model(place):
    return load_model(NAME, workspace=place, device="cpu")


@pytest.fixture(scope="module")
def reference(place):
    """The encoder as its authors saved it, run by transformers alone."""
    from transformers import BertModel

    return BertModel.from_pretrained(place.model(NAME), attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def tokens(model) -> torch.Tensor:
    """The texts between CLS and SEP, the short ones padded."""
    rows = [[model.tokenizer.bos, *model.tokenizer.encode(text), 102] for text in TEXTS]
    longest = max(map(len, rows))
    assert min(map(len, rows)) < longest
    return torch.tensor([row + [model.pad] * (longest - len(row)) for row in rows])


def test_what_it_is(model, place) -> None:
    assert (model.n_layers, model.d_model, model.d_vocab, model.n_ctx) == (6, 384, 30522, 512)
    assert (model.masked, model.headless, model.pad) == (True, True, 0)
    assert (NAME, True) in [(name, ready) for name, _, ready in known_models(place)]
    sites = model.sites()
    assert len(sites) == 42
    assert {sites[f"{k}.3"].width for k in ("resid_post", "attn_z", "attn_out", "mlp_out")} == {384}
    assert sites["mlp_post.3"].width == 1536
    assert model.site("attn_z.3.h11").width == 32


def test_every_site_is_what_bert_computes(model, reference, tokens) -> None:
    mask = (tokens != 0).long()
    expected: dict[str, torch.Tensor] = {}

    def keep(name, where):
        def hook(module, inputs, output):
            expected[name] = inputs[0] if where == "in" else output

        return hook

    handles = []
    for index, layer in enumerate(reference.encoder.layer):
        for name, module, where in (
            ("attn_z", layer.attention.output.dense, "in"),
            ("attn_out", layer.attention.output.dense, "out"),
            ("mlp_in", layer.intermediate.dense, "in"),
            ("mlp_post", layer.output.dense, "in"),
            ("mlp_out", layer.output.dense, "out"),
        ):
            handles.append(module.register_forward_hook(keep(f"{name}.{index}", where)))
    with torch.inference_mode():
        hidden = reference(tokens, mask, output_hidden_states=True).hidden_states
    for handle in handles:
        handle.remove()
    for layer in range(6):
        expected[f"resid_pre.{layer}"] = hidden[layer]
        expected[f"resid_post.{layer}"] = hidden[layer + 1]
    found = model.activations(tokens, list(model.sites().values()))
    assert set(found) == set(expected)
    real = mask.bool()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name][real], value[real], rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_it_stops_after_the_deepest_site(model, tokens) -> None:
    ran = []
    handles = [
        block.register_forward_hook(lambda *_, layer=layer: ran.append(layer))
        for layer, block in enumerate(model.bridge.blocks)
    ]
    model.activations(tokens, [model.site("mlp_out.2")])
    for handle in handles:
        handle.remove()
    assert ran == [0, 1, 2]


def test_sentences_of_one_meaning_lie_together(model, tokens) -> None:
    last = model.activations(tokens, [model.site("resid_post.5")])["resid_post.5"]
    mask = (tokens != 0)[..., None]
    mean = torch.nn.functional.normalize((last * mask).sum(1) / mask.sum(1), dim=-1)
    similarity = mean @ mean.T
    assert similarity[0, 1] > 0.5
    assert similarity[0, 2] < 0.2


def test_it_has_no_logits_and_no_directions(model, tokens) -> None:
    with pytest.raises(ConfigError, match="saved without a language-model head"):
        model.forward(tokens)
    assert model.write_directions(model.site("mlp_post.1"), torch.eye(1536)[:1]) is None


def test_its_windows_begin_with_cls(model) -> None:
    vocabulary = model.tokenizer.vocabulary()
    assert vocabulary[model.tokenizer.bos] == b"[CLS]"
    ids = model.tokenizer.encode("Unbelievable!")
    assert b"".join(vocabulary[id] for id in ids) == b" unbelievable !"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_passes_its_checks(place, dtype) -> None:
    model = load_model(NAME, workspace=place, device="cpu", dtype=dtype)
    found = check_model(model)
    assert [check for check in found if check.passed is False] == []
    assert sum(check.passed is None for check in found) == 2  # no logits, no lens


def test_fetching_again_does_nothing(place) -> None:
    folder = place.model(NAME)
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert fetch_model(NAME, place) == folder
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before
