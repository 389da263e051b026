"""Schedules, dead latents, and a state that can be put back to the bit."""

import pytest
import torch
from torch import Tensor

from interp.config import field_docs, field_types
from interp.errors import ConfigError, FormatError
from interp.sae import BatchTopK, TopK, TrainConfig, adam, architectures
from interp.sae.kinds.matchingpursuit import MatchingPursuitLearner
from interp.sae.trainer import Trainer
from tests.sae.planted import Planted
from tests.sae.shared import small, trainer_on


def silence(trainer: Trainer, latents: int, bias: float) -> None:
    """Let the first latents fire never or seldom from the start, until something helps them."""
    trainer.learner.weights.b_enc[:latents] = bias
    if isinstance(trainer.learner, MatchingPursuitLearner):  # no bias: copies are never chosen
        decoder = trainer.learner.weights.decoder
        decoder[:latents] = decoder[0].clone()


@pytest.mark.parametrize("kind", sorted(architectures()))
@pytest.mark.parametrize("cut", [1, 13, 39])
def test_a_restored_run_equals_an_unbroken_one_to_the_bit(kind: str, cut: int) -> None:
    """Weights, whatever an architecture trains besides them, moments, schedules and counts."""
    architecture = small(kind, latents=200, k=4, sparsity_warmup=0.5)
    config = TrainConfig(tokens=128 * 40, batch=128, lr=1e-2, dead_after=300)

    def begin() -> Trainer:
        trainer = trainer_on(Planted(batch=128), architecture, config)
        silence(trainer, 100, -30.0)
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


@pytest.mark.parametrize("kind", sorted(set(architectures()) - {"matchingpursuit"}))
def test_dead_latents_are_brought_back(kind: str) -> None:
    """By AuxK, or by the loss on pre-activations, whichever the architecture has.

    Matching pursuit has no bias to silence latents by; copies of one row stay copies under AuxK.
    """
    dead = {}
    for on in (False, True):
        off = {} if on else {"aux_k": 0, "preact_coefficient": 0.0}
        config = TrainConfig(tokens=128 * 300, batch=128, lr=1e-2, dead_after=1000)
        architecture = small(kind, **{"latents": 128, "k": 4, "aux_k": 16, **off})
        trainer = trainer_on(Planted(batch=128), architecture, config)
        silence(trainer, 64, -3.0)
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
    assert TrainConfig(tokens=1000).peak_lr(4096) == TrainConfig().peak_lr(4096) == 2e-3
    assert TrainConfig(tokens=12_000_000).peak_lr(4096) == pytest.approx(1e-3)
    assert TrainConfig(tokens=12_000_000, lr=0.01).peak_lr(4096) == 0.01


def first_gradients(kind: str, **settings) -> tuple[Tensor, float]:
    """What Adam is given first, ten times its moments after a step; and the loss's variance."""
    config = TrainConfig(tokens=1280, batch=128, beta1=0.9, **settings)
    architecture = small(kind, latents=64, k=4)
    trainer = trainer_on(Planted(batch=128), architecture, config)
    trainer.learner.unit_rows = False  # the projection comes after clipping
    trainer.step()
    tensors = [weight for _, weight in trainer.learner.weights.items()]
    moments = [10 * trainer.optimizer.state[each]["exp_avg"].flatten() for each in tensors]
    return torch.cat(moments), trainer.variance


@pytest.mark.parametrize("kind", ["topk", "gated", "jumprelu", "l1"])
def test_clipping_shortens_all_gradients_together_and_only_long_ones(kind: str) -> None:
    free, variance = first_gradients(kind, clip=0.0)
    length = free.norm() * variance
    assert length > 1.5
    clipped, _ = first_gradients(kind, clip=1.0)
    torch.testing.assert_close(clipped, free / length, rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(first_gradients(kind, clip=2 * float(length))[0], free)
    usual, _ = first_gradients(kind)
    assert torch.equal(usual, free if kind == "topk" else clipped)


def test_a_frozen_decoder_does_not_count_in_clipping() -> None:
    both = []
    for clip in (0.0, 1e-3):
        config = TrainConfig(tokens=1280, batch=128, clip=clip)
        trainer = trainer_on(Planted(batch=128), TopK(latents=64, k=4), config)
        trainer.learner.frozen = True
        trainer.step()
        weights = trainer.learner.weights
        moments = [
            10 * trainer.optimizer.state[each]["exp_avg"].flatten()
            for each in (weights.encoder, weights.b_enc, weights.b_dec)
        ]
        both.append(torch.cat(moments))
    length = 1e-3 / trainer.variance
    torch.testing.assert_close(both[1].norm(), torch.tensor(length), rtol=1e-4, atol=0)
    torch.testing.assert_close(both[1], both[0] * length / both[0].norm(), rtol=1e-4, atol=1e-9)


def test_adams_decays_are_settings() -> None:
    config = TrainConfig(tokens=1280, batch=128, beta1=0.5, beta2=0.75)
    trainer = trainer_on(Planted(batch=128), TopK(latents=64, k=4), config)
    gradient = trainer.step().gradients.encoder
    state = trainer.optimizer.state[trainer.learner.weights.encoder]
    torch.testing.assert_close(state["exp_avg"], 0.5 * gradient)
    torch.testing.assert_close(state["exp_avg_sq"], 0.25 * gradient**2)


@pytest.mark.parametrize("kind", ["topk", "frozen", "l1", "jumprelu"])
@pytest.mark.parametrize(
    ("clip", "steps", "rtol", "atol"), [(0.0, 100, 1e-3, 1e-4), (1.0, 32, 1e-4, 1e-6)]
)
def test_one_pass_trains_as_torchs_adam_does(
    monkeypatch, kind: str, clip: float, steps: int, rtol: float, atol: float
) -> None:
    """`L1` leaves the decoder's norms free, a frozen decoder stays, `JumpReLU` has thresholds.

    Clipped for 32 steps: later a gate of JumpReLU within rounding opens in one run only.
    """
    settings = {"latents": 64, "k": 4, "sparsity_warmup": 0.0, "frozen_decoder": kind == "frozen"}
    architecture = small("topk" if kind == "frozen" else kind, **settings)
    trained = {}
    for one_pass in (True, False):
        monkeypatch.setattr(adam, "has_compiled", lambda device, can=one_pass: can)
        config = TrainConfig(tokens=steps * 128, batch=128, lr=1e-3, clip=clip)
        trainer = trainer_on(Planted(batch=128), architecture, config)
        start = trainer.learner.weights.decoder.clone()
        while not trainer.finished:
            trainer.step()
        assert (kind == "frozen") == torch.equal(start, trainer.learner.weights.decoder)
        trained[one_pass] = dict(trainer.learner.weights.items())
    for name, weight in trained[True].items():
        torch.testing.assert_close(weight, trained[False][name], rtol=rtol, atol=atol, msg=name)


@pytest.mark.parametrize("kind", ["topk", "l1", "gated"])
@pytest.mark.parametrize("rows", [32, 50, 128])
def test_micro_batches_give_the_step_of_the_whole_batch(kind: str, rows: int) -> None:
    """Where losses are means over rows; 50 does not divide 128."""
    results = {}
    for micro in (None, rows):
        config = TrainConfig(tokens=1280, batch=128, micro_batch=micro)
        architecture = small(kind, latents=64, k=4, sparsity_warmup=0.0)
        trainer = trainer_on(Planted(batch=128), architecture, config)
        results[micro] = trainer.step()
    whole, parts = results[None], results[rows]
    for name in ("loss", "unexplained", "aux", "l0", "smallest"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), msg=name)
    assert torch.equal(parts.fired, whole.fired)
    for (name, part), (_, full) in zip(
        parts.gradients.items(), whole.gradients.items(), strict=True
    ):
        torch.testing.assert_close(part, full, rtol=1e-4, atol=1e-6, msg=name)


def test_micro_batches_keep_k_on_average_in_each_part() -> None:
    config = TrainConfig(tokens=1280, batch=128, micro_batch=32)
    trainer = trainer_on(Planted(batch=128), BatchTopK(latents=64, k=4), config)
    parts: list[float] = []
    step = trainer.learner.step

    def seen(x, variance, dead):
        result = step(x, variance, dead)
        parts.append(float(result.l0))
        return result

    trainer.learner.step = seen
    assert float(trainer.step().l0) == 4
    assert parts == [4, 4, 4, 4]


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
        {"data_seed": -1},
        {"beta1": 1.0},
        {"beta2": -0.1},
        {"clip": -1.0},
        {"clip": float("nan")},
        {"micro_batch": 0},
        {"resample": 0},
        {"resample_scale": 0.0},
    ],
)
def test_runs_that_cannot_work_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TrainConfig(**wrong)


def test_every_setting_is_documented() -> None:
    assert field_docs(TrainConfig).keys() == field_types(TrainConfig).keys()
