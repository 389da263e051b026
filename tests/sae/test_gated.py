"""Gated: the documented loss, a decoder frozen in its auxiliary task, an exact threshold form."""

import math

import numpy as np
import pytest
import torch

from interp.errors import ConfigError
from interp.sae import TrainConfig
from interp.sae.kinds.gated import Gated
from tests.sae.planted import Planted
from tests.sae.shared import ORIGIN, finish, trainer_on
from tests.sae.terms import LATENTS, VARIANCE, arrays, gradients, numeric, problem, reached

CONFIG = Gated(latents=LATENTS, l1_coefficient=0.3, preact_coefficient=0.2)


def gated_problem(seed: int):
    return problem(
        CONFIG,
        seed,
        r_mag=torch.linspace(-0.5, 0.5, LATENTS),
        b_mag=torch.linspace(0.6, -0.6, LATENTS),
    )


def by_hand(weights, x, dead, frozen=None, gates=None) -> dict[str, float]:
    """The loss in numpy float64, scalar by scalar.

    ``frozen`` are the decoder and bias that the auxiliary task holds constant, ``gates`` the
    open gates, which pass no gradient.
    """
    w, x, dead = arrays(weights), x.numpy(), dead.numpy()
    decoder, b_dec = frozen or (w["decoder"], w["b_dec"])
    squares = auxiliary = paid = below = 0.0
    opened = np.zeros((len(x), LATENTS), bool)
    for i, row in enumerate(x):
        estimate, signal = w["b_dec"].copy(), b_dec.copy()
        for j in range(LATENTS):
            along = float((row - w["b_dec"]) @ w["encoder"][j])
            gate = along + w["b_enc"][j]
            opened[i, j] = gate > 0
            if opened[i, j] if gates is None else gates[i, j]:
                value = max(along * math.exp(w["r_mag"][j]) + w["b_mag"][j], 0.0)
                estimate += value * w["decoder"][j]
            signal += max(gate, 0.0) * decoder[j]
            paid += max(gate, 0.0)
            below += max(-gate, 0.0) if dead[j] else 0.0
        squares += float(((row - estimate) ** 2).sum())
        auxiliary += float(((row - signal) ** 2).sum())
    spread = math.sqrt(VARIANCE)
    return {
        "unexplained": squares / len(x) / VARIANCE,
        "sparsity": CONFIG.l1_coefficient * paid / len(x) / spread,
        "aux": auxiliary / len(x) / VARIANCE + CONFIG.preact_coefficient * below / len(x) / spread,
        "gates": opened,
    }


def test_the_loss_equals_an_independent_formula() -> None:
    learner, weights, x, dead = gated_problem(1)
    terms = learner.terms(weights, x, VARIANCE, dead)
    expected = by_hand(weights, x, dead)
    for name in ("unexplained", "sparsity", "aux"):
        assert float(getattr(terms, name)) == pytest.approx(expected[name], rel=1e-12)
    # and the whole loss of the step is their sum, here without dead latents
    result = learner.step(x.float(), VARIANCE, None)
    assert float(result.loss) > float(result.unexplained)


def test_gradients_equal_finite_differences() -> None:
    """By every parameter, the frozen decoder and the open gates held constant as defined."""
    learner, weights, x, dead = gated_problem(2)
    frozen = (weights.decoder.numpy().copy(), weights.b_dec.numpy().copy())
    gates = by_hand(weights, x, dead)["gates"]

    def loss(w) -> float:
        parts = by_hand(w, x, dead, frozen, gates)
        return parts["unexplained"] + parts["sparsity"] + parts["aux"]

    found = gradients(learner, weights, x, dead, lambda t: t.unexplained + t.sparsity + t.aux)
    for name in found:
        expected = numeric(loss, weights, name)
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-7)


def test_which_parameters_each_term_reaches() -> None:
    """SAELens lets its auxiliary task train the decoder; the paper freezes it, and so here."""
    learner, weights, x, dead = gated_problem(3)
    gate = {"encoder", "b_enc", "b_dec"}
    table = {
        "unexplained": {"encoder", "r_mag", "b_mag", "decoder", "b_dec"},
        "sparsity": gate,
        "aux": gate,
    }
    for name, expected in table.items():
        found = gradients(learner, weights, x, dead, lambda t, name=name: getattr(t, name))
        assert reached(found) == expected, name


def test_b_dec_gets_from_the_auxiliary_task_only_what_reaches_it_through_the_gate() -> None:
    """∂gate/∂b_dec = -W_enc, so its gradient is minus the gate bias's, carried to the input."""
    learner, weights, x, _ = gated_problem(4)
    found = gradients(learner, weights, x, None, lambda t: t.aux)
    np.testing.assert_allclose(found["b_dec"], -found["b_enc"] @ weights.encoder.numpy())


def test_what_is_saved_is_the_same_function_with_one_encoder_and_a_threshold() -> None:
    config = Gated(latents=96)
    trainer = trainer_on(
        Planted(batch=64, bias=3.0), config, TrainConfig(tokens=6400, batch=64, lr=1e-2)
    )
    dictionary = finish(trainer, config)
    assert trainer.learner.weights.extra["r_mag"].abs().max() > 0.01
    assert (dictionary.threshold >= 0).all()
    x = torch.from_numpy(trainer.batches.draw(200, 5))
    terms = trainer.learner.terms(trainer.learner.weights, x * trainer.scale, 1.0, None)
    ours = dictionary.encode(x) * trainer.scale
    assert ((ours > 0) == (terms.z > 0)).float().mean() > 0.9999
    same = (ours > 0) == (terms.z > 0)  # the two round differently right at the threshold
    torch.testing.assert_close(ours[same], terms.z[same], rtol=1e-3, atol=1e-4)


def test_a_gate_wider_than_its_magnitude_saves_a_threshold_of_zero() -> None:
    learner, weights, x, _ = gated_problem(5)
    for (_, ours), (_, value) in zip(learner.weights.items(), weights.items(), strict=True):
        ours.copy_(value)
    learner.weights.b_enc.fill_(5.0)
    dictionary = learner.dictionary(CONFIG.dictionary(x.shape[1], ORIGIN), 1.0)
    assert not dictionary.threshold.any()
    terms = learner.terms(learner.weights, x.float(), VARIANCE, None)
    torch.testing.assert_close(dictionary.requires_grad_(False).encode(x.float()), terms.z)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"l1_coefficient": -0.1}, "l1_coefficient must be a number ≥ 0, got -0.1"),
        ({"l1_coefficient": math.inf}, "l1_coefficient must be a number ≥ 0"),
        ({"preact_coefficient": -1.0}, "preact_coefficient must be a number ≥ 0"),
        ({"sparsity_warmup": math.nan}, "sparsity_warmup is a share of the run"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Gated(**wrong)


def test_names_tell_coefficients_apart() -> None:
    assert Gated(l1_coefficient=0.25).label(16) == "gated-128-c0.25"
