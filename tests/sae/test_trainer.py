"""Schedules, dead latents, and a state that can be put back to the bit."""

import pytest
import torch

from interp.config import field_docs, field_types
from interp.errors import ConfigError, FormatError
from interp.sae import TopK, TrainConfig, architectures
from interp.sae.trainer import Trainer
from tests.sae.planted import Planted
from tests.sae.shared import small, trainer_on


@pytest.mark.parametrize("kind", sorted(architectures()))
@pytest.mark.parametrize("cut", [1, 13, 39])
def test_a_restored_run_equals_an_unbroken_one_to_the_bit(kind: str, cut: int) -> None:
    """Weights, whatever an architecture trains besides them, moments, schedules and counts."""
    architecture = small(kind, latents=200, k=4, sparsity_warmup=0.5)
    config = TrainConfig(tokens=128 * 40, batch=128, lr=1e-2, dead_after=300)

    def begin() -> Trainer:
        trainer = trainer_on(Planted(batch=128), architecture, config)
        trainer.learner.weights.b_enc[:100] = -30.0  # silent from the start
        return trainer

    whole = begin()
    losses = [float(whole.step().loss) for _ in range(40)]
    assert whole.dead().any()  # help for dead latents was at work

    first = begin()
    for _ in range(cut):
        first.step()
    tensors, text = first.save()
    saved = {name: tensor.clone() for name, tensor in tensors.items()}
    first.step()  # what happens after saving must not matter
    second = trainer_on(Planted(batch=128), architecture, config)
    second.load(saved, text)
    assert [float(second.step().loss) for _ in range(40 - cut)] == losses[cut:]
    ours, _ = second.save()
    theirs, _ = whole.save()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_checkpoint_of_another_run_is_refused() -> None:
    config = TrainConfig(tokens=1280, batch=128)
    first = trainer_on(Planted(batch=128), TopK(latents=200, k=4), config)
    first.step()
    second = trainer_on(Planted(batch=128), TopK(latents=100, k=4), config)
    with pytest.raises(FormatError, match="does not fit this run"):
        second.load(*first.save())


def test_a_latent_is_dead_after_so_many_silent_tokens_and_alive_once_it_fires() -> None:
    config = TrainConfig(tokens=128 * 20, batch=128, dead_after=384)
    trainer = trainer_on(Planted(batch=128), TopK(latents=64, k=2, aux_k=0), config)
    trainer.learner.weights.b_enc[:32] = -100.0  # these cannot fire
    for step in range(6):
        fired = trainer.step().fired
        assert not fired[:32].any()
        assert trainer.dead()[:32].all() == (step + 1 >= 3)
        assert not trainer.dead()[fired].any()
    trainer.learner.weights.b_enc[0] = 100.0
    trainer.step()
    assert not trainer.dead()[0]


@pytest.mark.parametrize("kind", sorted(architectures()))
def test_dead_latents_are_brought_back(kind: str) -> None:
    """By AuxK, or by the loss on pre-activations, whichever the architecture has."""
    dead = {}
    for on in (False, True):
        off = {} if on else {"aux_k": 0, "preact_coefficient": 0.0}
        config = TrainConfig(tokens=128 * 300, batch=128, lr=1e-2, dead_after=1000)
        architecture = small(kind, **{"latents": 128, "k": 4, "aux_k": 16, **off})
        trainer = trainer_on(Planted(batch=128), architecture, config)
        trainer.learner.weights.b_enc[:64] = -3.0
        while not trainer.finished:
            trainer.step()
        dead[on] = int(trainer.dead()[:64].sum())
    assert dead[True] < 0.7 * dead[False], dead


def test_the_learning_rate_rises_holds_and_falls_to_nothing() -> None:
    config = TrainConfig(tokens=1000, batch=10, warmup=0.1, decay=0.2)
    rates = [config.rate(step) for step in range(config.steps())]
    assert rates[:2] == pytest.approx([0.1, 0.2])
    assert set(rates[10:80]) == {1.0}
    assert rates[-1] == pytest.approx(0.05)
    assert TrainConfig(tokens=1001, batch=10).steps() == 101
    assert TrainConfig(warmup=0.0, decay=0.0).rate(0) == 1
    assert TrainConfig(lr=0.01).peak_lr(10) == 0.01
    assert TrainConfig().peak_lr(4096) == pytest.approx(2 * TrainConfig().peak_lr(4 * 4096))


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokens": 0},
        {"batch": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"warmup": 0.7, "decay": 0.7},
        {"warmup": -0.1},
        {"dead_after": 0},
        {"seed": -1},
        {"checkpoint_every": 0},
        {"log_every": 0},
    ],
)
def test_runs_that_cannot_work_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TrainConfig(**wrong)


def test_every_setting_is_documented() -> None:
    assert field_docs(TrainConfig).keys() == field_types(TrainConfig).keys()
