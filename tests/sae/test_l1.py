"""L1: the documented loss and its gradients; norms free in training and folded afterwards."""

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
        ({"sparsity_warmup": -0.5}, "sparsity_warmup is a share of the run"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        L1(**wrong)


def test_names_tell_coefficients_apart() -> None:
    assert L1(l1_coefficient=0.25).label(16) == "l1-128-c0.25"
