"""L1: the documented loss and its gradients; norms free in training and folded afterwards."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from interp.errors import ConfigError
from interp.sae import TrainConfig
from interp.sae.kinds.l1 import L1
from tests.sae.planted import Planted
from tests.sae.shared import CPU, finish, trainer_on
from tests.sae.terms import LATENTS, VARIANCE, arrays, gradients, numeric, problem, reached

CONFIG = L1(latents=LATENTS, l1_coefficient=0.3, preact_coefficient=0.2)


def by_hand(config: L1, weights, x, dead, norms=None) -> dict[str, float]:
    """The loss in numpy float64; ``norms`` are those that the dead latents' loss holds constant."""
    w, x, dead = arrays(weights), x.numpy(), dead.numpy()
    lengths = [math.sqrt(sum(float(v) ** 2 for v in row)) for row in w["decoder"]]
    held = lengths if norms is None else norms
    squares = paid = below = 0.0
    for row in x:
        estimate = w["b_dec"].copy()
        for j in range(LATENTS):
            pre = float((row - w["b_dec"]) @ w["encoder"][j] + w["b_enc"][j])
            estimate += max(pre, 0.0) * w["decoder"][j]
            paid += max(pre, 0.0) * lengths[j]
            below += max(-pre, 0.0) * held[j] * bool(dead[j])
        squares += float(((row - estimate) ** 2).sum())
    spread = math.sqrt(VARIANCE)
    return {
        "unexplained": squares / len(x) / VARIANCE,
        "sparsity": config.l1_coefficient * paid / len(x) / spread,
        "aux": config.preact_coefficient * below / len(x) / spread,
    }


def test_the_loss_equals_an_independent_formula() -> None:
    learner, weights, x, dead = problem(CONFIG, 1)
    terms = learner.terms(weights, x, VARIANCE, dead)
    for name, expected in by_hand(CONFIG, weights, x, dead).items():
        assert expected > 0
        assert float(getattr(terms, name)) == pytest.approx(expected, rel=1e-12)


def test_gradients_equal_finite_differences() -> None:
    """Of the whole loss by every parameter, the dead latents' norms held constant as defined."""
    learner, weights, x, dead = problem(CONFIG, 2)
    held = weights.decoder.norm(dim=1).tolist()
    found = gradients(learner, weights, x, dead, lambda t: t.unexplained + t.sparsity + t.aux)
    for name in found:
        expected = numeric(lambda w: sum(by_hand(CONFIG, w, x, dead, held).values()), weights, name)
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-7)


def test_which_parameters_each_term_reaches() -> None:
    learner, weights, x, dead = problem(CONFIG, 3)
    encoding = {"encoder", "b_enc", "b_dec"}
    table = {
        "unexplained": {*encoding, "decoder"},
        "sparsity": {*encoding, "decoder"},  # the decoder through its norms
        "aux": encoding,
    }
    for name, expected in table.items():
        found = gradients(learner, weights, x, dead, lambda t, name=name: getattr(t, name))
        assert reached(found) == expected, name
        if name == "aux":
            assert not any(found[key][~dead.numpy()].any() for key in ("encoder", "b_enc"))


def test_the_penalty_cannot_be_escaped_by_a_larger_decoder() -> None:
    """Latents a hundred times smaller on rows a hundred times longer cost and explain the same."""
    learner, weights, x, dead = problem(CONFIG, 4)
    encoder, b_enc, decoder, b_dec = (tensor for _, tensor in weights.items())
    moved = weights.like([encoder / 100, b_enc / 100, decoder * 100, b_dec])
    ours, theirs = (learner.terms(w, x, VARIANCE, dead) for w in (weights, moved))
    for name in ("unexplained", "sparsity", "aux"):
        assert float(getattr(ours, name)) == pytest.approx(float(getattr(theirs, name)), rel=1e-12)


def test_decoder_norms_are_trained_and_folded_into_what_is_saved() -> None:
    config = L1(latents=96)
    trainer = trainer_on(
        Planted(batch=64, bias=3.0), config, TrainConfig(tokens=6400, batch=64, lr=1e-2)
    )
    norms = trainer.learner.weights.decoder.norm(dim=1)
    torch.testing.assert_close(norms, torch.full((96,), 0.1))
    dictionary = finish(trainer, config)
    assert trainer.learner.weights.decoder.norm(dim=1).std() > 0.01
    torch.testing.assert_close(dictionary.W_dec.norm(dim=1), torch.ones(96))
    x = torch.from_numpy(trainer.batches.draw(200, 5))
    weights = trainer.learner.weights
    terms = trainer.learner.terms(weights, x * trainer.scale, 1.0, None)
    expected = terms.z * weights.decoder.norm(dim=1)
    torch.testing.assert_close(dictionary.encode(x) * trainer.scale, expected, rtol=1e-3, atol=1e-4)


def test_values_are_shrunk_by_half_the_coefficient() -> None:
    """One unit feature, one latent: minimising (a - z)²/v + λ z/√v gives z = a - λ√v/2."""
    learner = L1(latents=2, l1_coefficient=0.4).learner(1, CPU)
    a, variance = 3.0, 4.0
    learner.weights.encoder[0], learner.weights.decoder[0] = 1.0, 1.0
    for shift, sign in ((-0.41, -1), (-0.39, 1)):  # either side of the minimum at -0.4
        learner.weights.b_enc[:] = torch.tensor([shift, -9.0])
        gradient = learner.step(torch.tensor([[a]]), variance, None).gradients.b_enc[0]
        assert float(gradient) * sign > 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"l1_coefficient": -0.1}, "l1_coefficient must be a number ≥ 0, got -0.1"),
        ({"l1_coefficient": math.nan}, "l1_coefficient must be a number ≥ 0"),
        ({"preact_coefficient": -1.0}, "preact_coefficient must be a number ≥ 0"),
        ({"p_end": 0.0}, "p_end must lie above 0 and be at most 1, got 0.0"),
        ({"p_end": 1.5}, "p_end must lie above 0"),
        ({"p_start": 1.0}, "p_start is a share of the run"),
        ({"sparsity_warmup": -0.5}, "sparsity_warmup is a share of the run"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        L1(**wrong)


def test_names_tell_coefficients_apart() -> None:
    assert L1(l1_coefficient=0.25).label(16) == "l1-128-c0.25"
    assert L1(p_end=0.2).label(16) == "l1-128-c0.2-p0.2"


# -- p-annealing -----------------------------------------------------------------------------------

ANNEALED = dataclasses.replace(CONFIG, p_end=0.2, p_start=0.5)


def annealed_penalty(weights, x, p: float) -> float:
    """Σ of smoothed powers in numpy float64, value by value, before λ and its factor."""
    w, total = arrays(weights), 0.0
    for row in x.numpy():
        for j in range(LATENTS):
            pre = float((row - w["b_dec"]) @ w["encoder"][j] + w["b_enc"][j])
            value = max(pre, 0.0) * float(np.linalg.norm(w["decoder"][j])) / math.sqrt(VARIANCE)
            total += (value + 1e-3) ** p - 1e-3**p
    return total / len(x)


def test_the_annealed_penalty_equals_an_independent_formula_and_so_do_its_gradients() -> None:
    learner, weights, x, _ = problem(ANNEALED, 5)
    learner.state()["exponent"].fill_(0.4)
    learner.state()["factor"].fill_(0.7)
    found = learner.terms(weights, x, VARIANCE, None).sparsity
    expected = 0.7 * 0.3 * annealed_penalty(weights, x, 0.4)
    assert float(found) == pytest.approx(expected, rel=1e-12)
    ours = gradients(learner, weights, x, None, lambda t: t.sparsity)
    for name in ours:
        by_differences = numeric(lambda w: 0.7 * 0.3 * annealed_penalty(w, x, 0.4), weights, name)
        np.testing.assert_allclose(ours[name], by_differences, rtol=1e-5, atol=1e-7)


def test_the_exponent_falls_on_schedule_and_the_penalty_goes_on_from_where_it_was() -> None:
    learner, weights, x, _ = problem(ANNEALED, 6)
    for (_, ours), (_, drawn) in zip(learner.weights.items(), weights.items(), strict=True):
        ours.copy_(drawn)
    x, penalties = x.float(), []
    for progress, after in ((0.0, 1.0), (0.5, 1.0), (0.75, 0.6), (0.99, 0.216), (1.0, 0.2)):
        learner.progress = progress
        learner.step(x, VARIANCE, None)
        assert float(learner.state()["exponent"]) == pytest.approx(after)
        learner.progress = 1.0  # past the warm-up
        penalties.append(float(learner.terms(learner.weights, x, VARIANCE, None).sparsity))
    assert penalties == pytest.approx([penalties[0]] * 5, rel=1e-5)
    expected = annealed_penalty(weights, x, 1.0) / annealed_penalty(weights, x, 0.2)
    assert float(learner.state()["factor"]) == pytest.approx(expected, rel=1e-5)
    assert abs(expected - 1) > 0.5


def test_without_annealing_the_penalty_is_plain_l1_and_there_is_no_state() -> None:
    assert L1(latents=LATENTS).learner(8, CPU).state() == {}
    assert L1().exponent(1.0) == 1


@pytest.mark.slow
def test_annealing_shrinks_values_less_and_uses_fewer_latents() -> None:
    """What a price on number promises over one on size, at the same coefficient."""
    source = Planted(batch=256)
    run = TrainConfig(tokens=256 * 1000, batch=256, lr=1e-2, seed=1)
    rows = torch.from_numpy(source.draw(4096, 9))
    found = {}
    for p_end in (1.0, 0.2):
        config = L1(latents=128, p_end=p_end, p_start=0.3)
        dictionary = finish(trainer_on(source, config, run), config)
        kept = float((dictionary(rows) * rows).sum() / rows.square().sum())
        found[p_end] = (kept, float((dictionary.encode(rows) > 0).sum(dim=1).float().mean()))
    assert found[0.2][0] > found[1.0][0] + 0.04
    assert found[0.2][1] < found[1.0][1] - 1
