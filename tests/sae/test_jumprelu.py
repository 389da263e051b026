"""JumpReLU: the documented loss, the published straight-through gradients, and what they reach."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from interp.errors import ConfigError
from interp.sae import TrainConfig
from interp.sae.kinds.jumprelu import JumpReLU, jump, step
from tests.sae.planted import Planted, mmcs
from tests.sae.shared import CPU, ORIGIN, finish, trainer_on
from tests.sae.terms import (
    D_IN,
    LATENTS,
    ROWS,
    VARIANCE,
    arrays,
    gradients,
    numeric,
    problem,
    reached,
)

SETTINGS = {
    "step": JumpReLU(
        latents=LATENTS, l0_coefficient=0.07, preact_coefficient=0.3, bandwidth=1.0, threshold=0.5
    ),
    "tanh": JumpReLU(
        latents=LATENTS,
        penalty="tanh",
        l0_coefficient=0.07,
        preact_coefficient=0.3,
        tanh_scale=0.8,
        bandwidth=1.0,
    ),
    "quadratic-l0": JumpReLU(
        latents=LATENTS,
        penalty="quadratic-l0",
        l0_coefficient=0.7,
        target_l0=1.5,
        preact_coefficient=0.3,
        bandwidth=1.0,
    ),
}
every = pytest.mark.parametrize("penalty", sorted(SETTINGS))


def jump_problem(penalty: str, seed: int):
    log_threshold = torch.linspace(math.log(0.12), math.log(1.0), LATENTS)
    return problem(SETTINGS[penalty], seed, log_threshold=log_threshold)


def by_hand(config: JumpReLU, weights, x, dead) -> dict:
    """The loss in numpy float64, row by row and latent by latent, and its parts."""
    w, x, dead = arrays(weights), x.numpy(), dead.numpy()
    theta = [math.exp(t) for t in w["log_threshold"]]
    errors, pre, z = [], np.zeros((len(x), LATENTS)), np.zeros((len(x), LATENTS))
    firing = saturated = below = 0.0
    for i, row in enumerate(x):
        estimate = w["b_dec"].copy()
        for j in range(LATENTS):
            pre[i, j] = sum(
                (row[d] - w["b_dec"][d]) * w["encoder"][j, d] for d in range(D_IN)
            ) + float(w["b_enc"][j])
            if pre[i, j] > theta[j]:
                z[i, j] = pre[i, j]
                firing += 1
                saturated += math.tanh(config.tanh_scale * pre[i, j])
                estimate += pre[i, j] * w["decoder"][j]
            elif dead[j]:
                below += theta[j] - pre[i, j]
        errors.append(row - estimate)
    penalty = {
        "step": firing / len(x),
        "tanh": saturated / len(x),
        "quadratic-l0": (firing / len(x) / config.target_l0 - 1) ** 2,
    }[config.penalty]
    parts = {
        "unexplained": sum(float(e @ e) for e in errors) / len(x) / VARIANCE,
        "sparsity": config.coefficient() * penalty,
        "aux": config.preact_coefficient * below / len(x) / math.sqrt(VARIANCE),
    }
    more = {"pre": pre, "theta": np.array(theta), "errors": np.array(errors), "z": z}
    return {**parts, **more, "loss": sum(parts.values()), "l0": firing / len(x)}


@every
def test_the_loss_equals_an_independent_formula(penalty: str) -> None:
    learner, weights, x, dead = jump_problem(penalty, 1)
    terms = learner.terms(weights, x, VARIANCE, dead)
    expected = by_hand(SETTINGS[penalty], weights, x, dead)
    for name in ("unexplained", "sparsity", "aux"):
        assert expected[name] > 0
        assert float(getattr(terms, name)) == pytest.approx(expected[name], rel=1e-12)
    np.testing.assert_allclose(terms.z.numpy(), expected["z"], rtol=1e-12)


@every
def test_gradients_away_from_the_jumps_equal_finite_differences(penalty: str) -> None:
    """Every parameter but the threshold; no pre-activation crosses its threshold on the way."""
    learner, weights, x, dead = jump_problem(penalty, 2)
    config = SETTINGS[penalty]
    start = by_hand(config, weights, x, dead)
    assert np.abs(start["pre"] - start["theta"]).min() > 1e-4
    found = gradients(learner, weights, x, dead, lambda t: t.unexplained + t.sparsity + t.aux)
    for name in ("encoder", "b_enc", "decoder", "b_dec"):
        expected = numeric(lambda w: by_hand(config, w, x, dead)["loss"], weights, name)
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-7)


@every
def test_the_threshold_gets_exactly_the_published_estimate(penalty: str) -> None:
    """The paper's times ∂θ/∂log θ = θ, plus the true derivative of the dead's loss."""
    learner, weights, x, dead = jump_problem(penalty, 3)
    config, found = SETTINGS[penalty], by_hand(SETTINGS[penalty], weights, x, dead)
    epsilon, weight = config.bandwidth, config.coefficient()
    expected, hit = np.zeros(LATENTS), 0
    for j, theta in enumerate(found["theta"]):
        for i in range(ROWS):
            if abs(found["pre"][i, j] - theta) < epsilon / 2:
                hit += 1
                by_z = -2 * found["errors"][i] @ weights.decoder[j].numpy() / (ROWS * VARIANCE)
                by_h = 0.0
                if penalty == "tanh":
                    by_z += (
                        weight
                        * config.tanh_scale
                        / ROWS
                        * (1 - math.tanh(config.tanh_scale * found["z"][i, j]) ** 2)
                    )
                elif penalty == "step":
                    by_h = weight / ROWS
                else:
                    by_h = 2 * weight * (found["l0"] / config.target_l0 - 1)
                    by_h /= config.target_l0 * ROWS
                expected[j] += theta * (by_z * -theta / epsilon - by_h / epsilon)
            if dead[j] and found["pre"][i, j] < theta:
                share = theta / (ROWS * math.sqrt(VARIANCE))
                expected[j] += config.preact_coefficient * share
    assert hit > 20
    ours = gradients(learner, weights, x, dead, lambda t: t.unexplained + t.sparsity + t.aux)
    np.testing.assert_allclose(ours["log_threshold"], expected, rtol=1e-9, atol=1e-12)


def test_the_kernel_estimates_the_derivative_of_the_expected_loss() -> None:
    """Over standard normal pre-activations, dE[H]/dθ = -φ(θ) and dE[z]/dθ = -θ φ(θ)."""
    pre = torch.randn(400_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theta = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    density = math.exp(-(0.7**2) / 2) / math.sqrt(2 * math.pi)
    (by_step,) = torch.autograd.grad(step(pre, theta, 0.1).mean(), theta)
    (by_jump,) = torch.autograd.grad(jump(pre, theta, 0.1).mean(), theta)
    assert float(by_step) == pytest.approx(-density, rel=0.02)
    assert float(by_jump) == pytest.approx(-0.7 * density, rel=0.02)


@every
def test_which_parameters_each_term_reaches(penalty: str) -> None:
    learner, weights, x, dead = jump_problem(penalty, 4)
    encoding = {"encoder", "b_enc", "b_dec", "log_threshold"}
    table = {
        "unexplained": {*encoding, "decoder"},
        "sparsity": encoding if penalty == "tanh" else {"log_threshold"},
        "aux": encoding,
    }
    for name, expected in table.items():
        found = gradients(learner, weights, x, dead, lambda t, name=name: getattr(t, name))
        assert reached(found) == expected, name
        if name == "aux":
            assert not any(found[key][~dead.numpy()].any() for key in ("encoder", "b_enc"))
    off = gradients(learner, weights, x, None, lambda t: t.aux)
    assert reached(off) == set()


def test_the_penalty_rises_over_the_warm_up() -> None:
    learner, weights, x, _ = jump_problem("step", 5)
    learner.config = dataclasses.replace(learner.config, sparsity_warmup=0.2)
    values = []
    for progress in (0.0, 0.1, 0.2, 0.9):
        learner.progress = progress
        values.append(float(learner.terms(weights, x, VARIANCE, None).sparsity))
    assert values[0] == 0
    assert values[1] == pytest.approx(values[2] / 2)
    assert values[2] == values[3] > 0
    assert JumpReLU(sparsity_warmup=0.0).ramp(0.0) == 1


def test_what_is_saved_encodes_as_training_did() -> None:
    config = JumpReLU(latents=96)
    trainer = trainer_on(
        Planted(batch=64, bias=3.0), config, TrainConfig(tokens=6400, batch=64, lr=1e-2)
    )
    dictionary = finish(trainer, config)
    x = torch.from_numpy(trainer.batches.draw(200, 5))
    terms = trainer.learner.terms(trainer.learner.weights, x * trainer.scale, 1.0, None)
    torch.testing.assert_close(dictionary.encode(x) * trainer.scale, terms.z, rtol=1e-3, atol=1e-4)
    assert (dictionary.threshold > 0).all()
    assert len(dictionary.threshold.unique()) > 48


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"penalty": "step"}, marks=pytest.mark.slow),  # as the conformance suite
        pytest.param({"penalty": "tanh"}, marks=pytest.mark.slow),
        {"penalty": "quadratic-l0", "target_l0": 4.0, "sparsity_warmup": 0.5},
    ],
    ids=lambda settings: settings["penalty"],
)
def test_planted_features_are_recovered_under_every_penalty(settings: dict) -> None:
    source, config = Planted(batch=512), JumpReLU(latents=128, **settings)
    run = TrainConfig(tokens=700_000, batch=512, lr=1e-2, seed=3, dead_after=20_000)
    dictionary = finish(trainer_on(source, config, run), config)
    assert mmcs(source.features, dictionary.W_dec.numpy()) >= 0.96
    active = dictionary.encode(torch.from_numpy(source.draw(4096, 9))) > 0
    l0 = float(active.sum(dim=1).float().mean())
    assert l0 == pytest.approx(4, rel=0.15 if "target_l0" in settings else 0.5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"l0_coefficient": -1.0}, "l0_coefficient must be a number ≥ 0, got -1.0"),
        ({"l0_coefficient": math.nan}, "l0_coefficient must be a number ≥ 0"),
        ({"preact_coefficient": -1.0}, "preact_coefficient must be a number ≥ 0"),
        ({"bandwidth": 0.0}, "bandwidth must be a number > 0, got 0.0"),
        ({"bandwidth": -1.0}, "bandwidth must be a number > 0"),
        ({"threshold": 0.0}, "threshold must be a number > 0"),
        ({"target_l0": 0.0}, "target_l0 must be a number > 0"),
        ({"tanh_scale": math.inf}, "tanh_scale must be a number > 0"),
        ({"sparsity_warmup": 1.5}, "sparsity_warmup is a share of the run"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        JumpReLU(**wrong)


def test_a_target_beyond_the_width_is_refused_and_names_tell_settings_apart() -> None:
    with pytest.raises(ConfigError, match="target_l0=32 is more than the 128 latents or .* 16"):
        JumpReLU(penalty="quadratic-l0").check(16)
    JumpReLU().check(16)
    assert JumpReLU().label(16) == "jumprelu-128-step0.003"
    assert JumpReLU(penalty="quadratic-l0").label(16) == "jumprelu-128-l0-32"
    assert JumpReLU(latents=24).dictionary(8, ORIGIN).threshold.shape == (24,)
    assert JumpReLU(latents=24).learner(8, CPU).weights.extra["log_threshold"].shape == (24,)
