"""The toy model after its training: what is written, what it learnt, and what is refused."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from interp.corpus import load_corpus, split_heldout
from interp.errors import ConfigError, DataError, FormatError
from interp.files import write_json
from interp.models import fetch_model, known_models, load_model
from interp.models.shakespeare import BOS, NAME, ShakespeareConfig, load_step, train_shakespeare
from interp.workspace import Workspace
from tests.models.plays import CHECKPOINTS, CONFIG, interrupt_at, plays, workspace_at

# -- a whole training ---------------------------------------------------------------------------


def test_every_checkpoint_is_there_and_the_description_is_true(trained) -> None:
    folder = trained.model(NAME)
    names = {f"step-{step:06d}.safetensors" for step in CHECKPOINTS}
    assert {file.name for file in folder.iterdir()} == names | {
        "model.json",
        "tokenizer.json",
        "training.jsonl",
    }
    description = json.loads((folder / "model.json").read_text())
    assert description["steps"] == CHECKPOINTS
    assert description["precision"] == "float32"
    assert description["samples"]["before"].startswith("ROMEO.")
    assert description["samples"]["after"].startswith("ROMEO.")
    assert description["samples"]["before"] != description["samples"]["after"]
    lines = [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "heldout_loss" in line] == CHECKPOINTS
    assert [line["step"] for line in lines if "loss" in line] == [50, 100]
    assert (NAME, True) in [(name, ready) for name, _, ready in known_models(trained)]


def test_it_learns(trained) -> None:
    text = (trained.model(NAME) / "training.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    losses = [line["heldout_loss"] for line in lines if "heldout_loss" in line]
    heldout = json.loads((trained.model(NAME) / "model.json").read_text())["heldout"]
    assert losses[0] == pytest.approx(heldout["uniform_loss"], abs=0.5)
    assert losses[:4] == sorted(losses[:4], reverse=True)
    assert losses[-1] == pytest.approx(losses[3], abs=0.05)  # all there is to learn is learnt
    assert heldout["loss"] == losses[-1]
    assert heldout["loss"] < heldout["unigram_loss"] - 0.5 < heldout["uniform_loss"] - 0.5


def test_the_held_out_loss_is_that_of_the_last_checkpoint_on_the_held_out_play(trained) -> None:
    """Measured again through `load_model`, on every window of the play that was held out."""
    model = load_model(NAME, workspace=trained, device="cpu")
    documents = load_corpus("shakespeare", trained).documents()
    held = split_heldout(documents, seed=CONFIG.seed)
    stream = [
        id
        for document, out in zip(documents, held, strict=True)
        if out
        for id in model.tokenizer.encode(document.text)
    ]
    length = CONFIG.n_ctx - 1
    rows = [[BOS, *stream[start : start + length]] for start in range(len(stream) - length)]
    tokens = torch.tensor(rows)
    with torch.inference_mode():
        logits = model.forward(tokens)[:, :-1]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    heldout = json.loads((trained.model(NAME) / "model.json").read_text())["heldout"]
    assert heldout["loss"] == pytest.approx(float(loss), abs=0.1)  # a sample of these windows
    size = sum(len(d.text.encode()) for d, out in zip(documents, held, strict=True) if out)
    bits = heldout["loss"] / math.log(2) * len(stream) / size
    assert heldout["bits_per_byte"] == pytest.approx(bits)


def test_step_0_is_the_untrained_model_and_the_last_step_the_default(trained) -> None:
    folder = trained.model(NAME)
    untrained = CONFIG.build().state_dict()
    first, _ = load_step(folder, 0)
    last, path = load_step(folder, None)
    assert path.name == "step-000120.safetensors"
    assert set(first.state_dict()) == set(untrained)
    assert all(torch.equal(value, untrained[name]) for name, value in first.state_dict().items())
    assert any(not torch.equal(v, untrained[name]) for name, v in last.state_dict().items())
    again, _ = load_step(folder, 120)
    assert all(torch.equal(v, again.state_dict()[name]) for name, v in last.state_dict().items())


def test_checkpoints_load_by_name(trained, capfd) -> None:
    tokens = torch.tensor([[BOS, 70, 80, 90]])
    models = {
        step: load_model(f"{NAME}@{step}" if step else NAME, workspace=trained, device="cpu")
        for step in ("0", "100", "")
    }
    logits = {step: model.forward(tokens) for step, model in models.items()}
    assert not torch.allclose(logits["0"], logits["100"])
    assert not torch.allclose(logits["100"], logits[""])
    assert len({model.digest for model in models.values()}) == 3
    model = models["0"]
    assert (model.name, model.n_layers, model.n_ctx) == (f"{NAME}@0", 1, 16)
    assert (model.d_model, model.d_vocab) == (16, 320)
    assert model.tokenizer.bos == BOS
    assert model.site("mlp_post.0").width == 32
    half = load_model(NAME, workspace=trained, device="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in half.bridge.parameters()} == {torch.bfloat16}
    assert half.bridge.cfg.dtype == torch.bfloat16
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_neurons_are_relu_and_write_through_w_out(trained) -> None:
    model = load_model(NAME, workspace=trained, device="cpu")
    post, out = model.site("mlp_post.0"), model.site("mlp_out.0")
    found = model.activations(torch.tensor([[BOS, 65, 66, 67]]), [post, out])
    assert found[post.name].min() == 0
    assert found[post.name].max() > 0
    written = model.write_directions(post, torch.eye(32))
    bias = load_file(model_file(trained))["blocks.0.mlp.out.bias"]
    total = found[post.name] @ written + bias
    torch.testing.assert_close(total, found[out.name], rtol=1e-4, atol=1e-5)


def model_file(workspace: Workspace) -> Path:
    return workspace.model(NAME) / "step-000120.safetensors"


def test_a_finished_training_is_not_repeated(trained) -> None:
    before = {file: file.stat().st_mtime_ns for file in trained.model(NAME).iterdir()}
    assert train_shakespeare(CONFIG, trained, interrupt_at(0)) == trained.model(NAME)
    assert {file: file.stat().st_mtime_ns for file in trained.model(NAME).iterdir()} == before


def test_a_model_of_other_settings_is_not_overwritten(trained) -> None:
    """`fetch_model` takes the default settings."""
    with pytest.raises(ConfigError, match=r"other settings \(.*d_model=16.*\); delete it"):
        fetch_model(NAME, trained)


# -- what is refused ----------------------------------------------------------------------------


def test_a_corpus_that_is_too_small_is_refused(tmp_path) -> None:
    tiny = workspace_at(tmp_path / "tiny", plays(works=1, scenes=1))  # nothing is left to hold out
    with pytest.raises(DataError, match="too small"):
        train_shakespeare(CONFIG, tiny)


def test_an_unknown_step_lists_the_known_ones(trained) -> None:
    known = ", ".join(f"{NAME}@{step}" for step in CHECKPOINTS)
    for name in (f"{NAME}@11", f"{NAME}@900"):
        with pytest.raises(ConfigError, match=f"no checkpoint of step .*; known: {known}"):
            load_model(name, workspace=trained)
    with pytest.raises(ConfigError, match="step 7"):
        load_step(trained.model(NAME), 7)
    with pytest.raises(ConfigError, match=f"after @ stands a step number, such as {NAME}@0"):
        load_model(f"{NAME}@last", workspace=trained)


def test_a_damaged_description_is_named(tmp_path) -> None:
    folder = Workspace.at(tmp_path).model(NAME)
    for wrong in ({}, {"steps": [0]}, {"steps": None, "config": {}}, {"steps": [0], "config": 3}):
        write_json(folder / "model.json", wrong)
        with pytest.raises(FormatError, match=r"model.json is malformed .*train again"):
            load_step(folder, None)
        with pytest.raises(FormatError, match=r"model.json is malformed .*train again"):
            train_shakespeare(CONFIG, Workspace.at(tmp_path))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"windows": -1}, "windows must be at least 1"),
        ({"d_model": 0}, "d_model must be at least 1"),
        ({"n_heads": 3}, "multiple of n_heads 3"),
        ({"vocabulary": 299}, "300 to 50000"),
        ({"lr": 1.0}, "lr must lie between 0 and 1"),
        ({"lr": 0.0}, "lr must lie between 0 and 1"),
        ({"weight_decay": -0.1}, "weight_decay must not be negative"),
        ({"n_ctx": 7}, "n_ctx must be at least 8"),
    ],
)
def test_settings_that_cannot_work_are_refused(setting, message) -> None:
    with pytest.raises(ConfigError, match=message):
        ShakespeareConfig(**setting)
