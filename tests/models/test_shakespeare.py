"""Training a small model on a small corpus: what is written, and that a kill changes nothing."""

import errno
import json
import math
import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from interp.corpus import load_corpus, split_heldout
from interp.corpus.document import Document, write_documents
from interp.corpus.packaged import RECIPE
from interp.errors import ConfigError, DataError, FormatError, ResourceError
from interp.files import sha256, write_json
from interp.models import fetch_model, known_models, load_model, pretraining
from interp.models.shakespeare import (
    BOS,
    NAME,
    TOKENIZER_FILE,
    ShakespeareConfig,
    load_step,
    train_shakespeare,
)
from interp.workspace import Workspace

CONFIG = ShakespeareConfig(
    d_model=16,
    d_mlp=32,
    n_heads=2,
    n_ctx=16,
    vocabulary=320,
    steps=120,
    windows=8,
    lr=1e-2,
    precision="float32",
)
CHECKPOINTS = [0, 10, 30, 100, 120]


def plays(works: int = 4, scenes: int = 6) -> list[Document]:
    """Verse of a small grammar, the same every time."""
    draw = random.Random(1)
    words = [
        ["The", "A", "My"],
        ["king", "queen", "night", "rose"],
        ["loves", "slays", "seeks"],
        ["thy", "his"],
        ["crown", "heart", "née ☃"],
    ]
    return [
        Document(
            text="\n".join(" ".join(map(draw.choice, words)) + "." for _ in range(20)),
            title=f"Play {work}",
            domain="drama",
            language="en",
            licence="",
        )
        for work in range(works)
        for _ in range(scenes)
    ]


def workspace_at(path: Path, documents: list[Document]) -> Workspace:
    """A workspace whose corpus ``shakespeare`` is already built, out of these documents."""
    workspace = Workspace.at(path)
    folder = workspace.corpus("shakespeare")
    write_documents(folder / "documents.jsonl", documents)
    record = {
        "format": "interp-corpus",
        "version": RECIPE,
        "sha256": sha256(folder / "documents.jsonl"),
    }
    write_json(folder / "corpus.json", record)
    return workspace


@pytest.fixture
def place(tmp_path) -> Workspace:
    return workspace_at(tmp_path / "workspace", plays())


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Workspace:
    """Trained once, in one go; read only."""
    workspace = workspace_at(tmp_path_factory.mktemp("trained"), plays())
    train_shakespeare(CONFIG, workspace)
    return workspace


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of every file, without the moment of creation and what else depends on the run."""
    found = {file.name: file.read_bytes() for file in folder.iterdir()}
    description = json.loads(found["model.json"])
    del description["provenance"]
    return found | {"model.json": json.dumps(description).encode()}


def interrupt_at(step: int):
    """A progress callback that does what Ctrl-C does."""

    def progress(done: int, total: int, note: str) -> None:
        if done >= step:
            raise KeyboardInterrupt

    return progress


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


# -- the same bytes -----------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes(trained, place) -> None:
    torch.manual_seed(99)  # what ran before must not matter
    train_shakespeare(CONFIG, place)
    assert contents(place.model(NAME)) == contents(trained.model(NAME))


def test_another_seed_gives_other_weights_and_data(trained, place) -> None:
    train_shakespeare(replace(CONFIG, seed=1), place)
    mine, theirs = contents(place.model(NAME)), contents(trained.model(NAME))
    for name in ("step-000000.safetensors", "step-000120.safetensors", "training.jsonl"):
        assert mine[name] != theirs[name], name


@pytest.mark.parametrize(
    ("step", "kept"), [(5, False), (50, True), (55, True), (100, True), (105, True), (120, True)]
)
def test_a_killed_training_continues_to_the_same_bytes(trained, place, step, kept) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_shakespeare(CONFIG, place, interrupt_at(step))
    folder = place.model(NAME)
    assert not (folder / "model.json").exists()
    assert (folder / "resume.safetensors").exists() == kept
    assert [ready for name, _, ready in known_models(place) if name == NAME] == [False]
    steps = []
    train_shakespeare(CONFIG, place, lambda done, total, note: steps.append(done))
    assert steps[0] == (step // 50 * 50) + 5  # it did not begin anew
    assert contents(folder) == contents(trained.model(NAME))


def test_a_full_disk_leaves_the_older_resume_file(trained, place, monkeypatch) -> None:
    """The second resume file cannot be moved into place."""
    move = os.replace

    def full(source, target):
        if Path(target).name == "resume.safetensors" and Path(target).exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        move(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ResourceError, match="no space left"):
        train_shakespeare(CONFIG, place)
    monkeypatch.undo()
    steps = []
    train_shakespeare(CONFIG, place, lambda done, total, note: steps.append(done))
    assert steps[0] == 55
    assert contents(place.model(NAME)) == contents(trained.model(NAME))


def test_bfloat16_products_resume_to_the_same_bytes_too(place, tmp_path) -> None:
    config = replace(CONFIG, precision="bfloat16", steps=70)
    other = workspace_at(tmp_path / "other", plays())
    train_shakespeare(config, other)
    with pytest.raises(KeyboardInterrupt):
        train_shakespeare(config, place, interrupt_at(60))
    train_shakespeare(config, place)
    assert contents(place.model(NAME)) == contents(other.model(NAME))
    weights = load_file(place.model(NAME) / "step-000070.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_a_finished_training_is_not_repeated(trained) -> None:
    before = {file: file.stat().st_mtime_ns for file in trained.model(NAME).iterdir()}
    assert train_shakespeare(CONFIG, trained, interrupt_at(0)) == trained.model(NAME)
    assert {file: file.stat().st_mtime_ns for file in trained.model(NAME).iterdir()} == before


def test_a_model_of_other_settings_is_not_overwritten(trained) -> None:
    """`fetch_model` takes the default settings."""
    with pytest.raises(ConfigError, match=r"other settings \(.*d_model=16.*\); delete it"):
        fetch_model(NAME, trained)


# -- what is refused ----------------------------------------------------------------------------


def test_an_unfinished_training_of_other_settings_is_refused(place) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_shakespeare(CONFIG, place, interrupt_at(55))
    with pytest.raises(ConfigError, match="unfinished training of other settings; delete it"):
        train_shakespeare(replace(CONFIG, lr=2e-2), place)
    with pytest.raises(ConfigError, match="unfinished training of other settings; delete it"):
        train_shakespeare(replace(CONFIG, vocabulary=310), place)


def test_a_tokenizer_left_by_a_training_of_other_settings_is_not_used(place) -> None:
    """Killed before the first resume file: nothing of it may leak into the next training."""
    with pytest.raises(KeyboardInterrupt):
        train_shakespeare(CONFIG, place, interrupt_at(5))
    smaller = replace(CONFIG, vocabulary=300, steps=10)
    train_shakespeare(smaller, place)
    tokenizer = json.loads((place.model(NAME) / TOKENIZER_FILE).read_text())
    assert len(tokenizer["model"]["vocab"]) == 300


def test_a_corpus_that_is_too_small_is_refused(tmp_path) -> None:
    tiny = workspace_at(tmp_path / "tiny", plays(works=1, scenes=1))  # nothing is left to hold out
    with pytest.raises(DataError, match="too small"):
        train_shakespeare(CONFIG, tiny)


def test_a_loss_that_explodes_is_reported(place, monkeypatch) -> None:
    loss = pretraining.Pretraining._loss

    def broken(self, tokens):
        found = loss(self, tokens)
        return found * float("nan") if self.step == 7 else found

    monkeypatch.setattr(pretraining.Pretraining, "_loss", broken)
    with pytest.raises(DataError, match="nan at step 7; .* lower --lr"):
        train_shakespeare(CONFIG, place)


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


def test_the_learning_rate_warms_up_and_decays_to_a_tenth() -> None:
    config = replace(CONFIG, steps=100, lr=0.01)
    rates = [config.rate(step) for step in range(101)]
    assert rates[:5] == pytest.approx([0.002, 0.004, 0.006, 0.008, 0.01])
    assert rates[5] == pytest.approx(0.01)
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[100] == pytest.approx(0.001)


def test_every_window_is_bos_and_a_piece_of_the_training_tokens() -> None:
    stream = np.arange(100, 200)
    tokens = pretraining.Tokens(stream, stream + 100)
    run = pretraining.Pretraining(CONFIG, CONFIG.build(), tokens, Path("nowhere"))
    draw = np.random.default_rng(0)
    windows = run._windows(stream, draw, 500)
    assert windows.shape == (500, CONFIG.n_ctx)
    assert (windows[:, 0] == BOS).all()
    assert (windows[:, 2:] - windows[:, 1:-1] == 1).all()
    assert (windows[:, 1].min(), windows[:, -1].max()) == (100, 198)


def test_weight_decay_spares_vectors() -> None:
    """With a gradient of zero and a decay, AdamW shrinks matrices and leaves vectors alone."""
    config = replace(CONFIG, weight_decay=0.5)
    tokens = pretraining.Tokens(np.arange(100), np.arange(100))
    run = pretraining.Pretraining(config, config.build(), tokens, Path("nowhere"))
    before = {name: p.detach().clone() for name, p in run.bridge.named_parameters()}
    for parameter in run.bridge.parameters():
        parameter.grad = torch.zeros_like(parameter)
    run.optimizer.step()
    for name, parameter in run.bridge.named_parameters():
        factor = 1 - config.lr * 0.5 if parameter.ndim > 1 else 1
        torch.testing.assert_close(parameter.detach(), before[name] * factor)
