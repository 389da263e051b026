"""The training loop: the same bytes whatever interrupts it, and what it computes at each step."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from interp.errors import ConfigError, DataError, ResourceError
from interp.models import known_models, pretraining
from interp.models.shakespeare import BOS, NAME, TOKENIZER_FILE, train_shakespeare
from tests.models.plays import CONFIG, contents, interrupt_at, plays, workspace_at

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
    exact = workspace_at(tmp_path / "exact", plays())
    train_shakespeare(replace(config, precision="float32"), exact)
    last = "step-000070.safetensors"
    assert contents(exact.model(NAME))[last] != contents(other.model(NAME))[last]
    weights = load_file(place.model(NAME) / "step-000070.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}


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


# -- single steps -------------------------------------------------------------------------------


def test_a_loss_that_explodes_is_reported(place, monkeypatch) -> None:
    loss = pretraining.Pretraining._loss

    def broken(self, tokens):
        found = loss(self, tokens)
        return found * float("nan") if self.step == 7 else found

    monkeypatch.setattr(pretraining.Pretraining, "_loss", broken)
    with pytest.raises(DataError, match="nan at step 7; .* lower --lr"):
        train_shakespeare(CONFIG, place)


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


def test_the_held_out_loss_is_of_held_out_tokens() -> None:
    """A held-out stream of one token over and over has only one kind of window."""
    tokens = pretraining.Tokens(np.arange(100), np.full(100, 7))
    run = pretraining.Pretraining(CONFIG, CONFIG.build(), tokens, Path("nowhere"))
    window = torch.tensor([[BOS] + [7] * (CONFIG.n_ctx - 1)])
    with torch.inference_mode():
        chances = run.bridge(window)[0, :-1].softmax(-1)[:, 7]
    assert run._measure() == pytest.approx(float(-chances.log().mean()), rel=1e-5)


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
