"""Matching pursuit: the greedy algorithm, its exact gradient, and what one look cannot find."""

import dataclasses

import numpy as np
import pytest
import torch

from interp.errors import ConfigError
from interp.sae import TrainConfig
from interp.sae.kernels import Rule, Weights
from interp.sae.kinds.matchingpursuit import MatchingPursuit, PursuitBackend, pursue
from tests.sae.planted import Planted
from tests.sae.shared import CPU, ORIGIN, finish, trainer_on
from tests.sae.test_kernels import problem

RULE = Rule(k=3, per="row", aux_k=2, aux_coefficient=0.5)


def by_hand(weights: Weights, x, rule: Rule, dead, tolerance=0.0, held=None) -> dict:
    """Row by row and step by step in numpy; ``held`` are the residuals that AuxK explains."""
    decoder, b_dec, x = weights.decoder.numpy(), weights.b_dec.numpy(), x.numpy()
    z, left = np.zeros((len(x), len(decoder))), x - b_dec
    for i in range(len(x)):
        first = None
        for _ in range(rule.k):
            scores = [float(left[i] @ row) for row in decoder]
            value = max(scores)
            first = value if first is None else first
            if value <= 0 or value < tolerance * first:
                break
            z[i, scores.index(value)] += value
            left[i] = left[i] - value * decoder[scores.index(value)]
    target, aux = left if held is None else held, 0.0
    if dead is not None:
        spread = float(((target - target.mean(0)) ** 2).sum())
        for row in target:
            scores = sorted((float(row @ decoder[j]), j) for j in np.flatnonzero(dead))[::-1]
            estimate = sum(max(score, 0) * decoder[j] for score, j in scores[: rule.aux_k])
            aux += float(((row - estimate) ** 2).sum()) / spread
    unexplained = float((left**2).sum()) / len(x) / 5.0
    return {"z": z, "left": left, "unexplained": unexplained, "aux": aux}


def test_the_loss_equals_an_independent_formula() -> None:
    weights, x, dead = problem(1, n=9, d_in=7, latents=13)
    result = PursuitBackend().step(weights, x, RULE, 5.0, dead)
    expected = by_hand(weights, x, RULE, dead)
    assert float(result.unexplained) == pytest.approx(expected["unexplained"], rel=1e-12)
    assert float(result.aux) == pytest.approx(expected["aux"], rel=1e-12)
    loss = expected["unexplained"] + 0.5 * expected["aux"]
    assert float(result.loss) == pytest.approx(loss, rel=1e-12)
    assert float(result.l0) == pytest.approx((expected["z"] > 0).sum() / 9)
    assert result.fired.tolist() == (expected["z"] > 0).any(axis=0).tolist()


def test_gradients_equal_finite_differences_through_the_whole_pursuit() -> None:
    weights, x, dead = problem(2, n=6, d_in=5, latents=9)
    found = dict(PursuitBackend().step(weights, x, RULE, 5.0, dead).gradients.items())
    held = by_hand(weights, x, RULE, dead)["left"]
    for key in ("decoder", "b_dec"):
        tensor = dict(weights.items())[key]
        numeric = np.zeros(tensor.numel())
        for entry in range(tensor.numel()):
            sides = []
            for sign in (1, -1):
                moved = tensor.clone()
                moved.view(-1)[entry] += sign * 1e-6
                parts = by_hand(
                    dataclasses.replace(weights, **{key: moved}), x, RULE, dead, held=held
                )
                sides.append(parts["unexplained"] + 0.5 * parts["aux"])
            numeric[entry] = (sides[0] - sides[1]) / 2e-6
        assert np.abs(numeric).max() > 1e-3
        np.testing.assert_allclose(found[key].reshape(-1).numpy(), numeric, atol=1e-7)
    assert not found["encoder"].any()
    assert not found["b_enc"].any()


def test_auxk_reaches_dead_rows_only() -> None:
    weights, x, dead = problem(3, n=20, d_in=7, latents=13)
    off = dataclasses.replace(RULE, aux_k=0)
    both, main = (PursuitBackend().step(weights, x, rule, 5.0, dead) for rule in (RULE, off))
    aux = both.gradients.decoder - main.gradients.decoder
    assert aux[dead].abs().sum() > 0
    assert not aux[~dead].any()


@pytest.mark.parametrize("tolerance", [0.0, 0.5])
def test_the_dictionary_encodes_as_training_did(tolerance: float) -> None:
    weights, x, _ = problem(4, n=30, d_in=7, latents=13)
    config = MatchingPursuit(latents=13, k=4, tolerance=tolerance)
    learner = config.learner(7, CPU)
    learner.weights = weights
    dictionary = learner.dictionary(config.dictionary(7, ORIGIN).double(), 1.0)
    expected = by_hand(weights, x, dataclasses.replace(RULE, k=4), None, tolerance)
    z = dictionary.encode(x).detach()
    np.testing.assert_allclose(z.numpy(), expected["z"], atol=1e-12)
    np.testing.assert_allclose((x - dictionary(x)).detach(), expected["left"], atol=1e-12)
    values, _, left = pursue(x - weights.b_dec, weights.decoder, 4, tolerance)
    np.testing.assert_allclose(left, expected["left"], atol=1e-12)
    assert ((values > 0).sum(dim=1) < 4).any() == (tolerance > 0)


def test_what_is_left_shrinks_with_every_step_and_pythagoras_holds() -> None:
    weights, x, _ = problem(5, n=30, d_in=7, latents=13)
    centred = x - weights.b_dec
    norms = [pursue(centred, weights.decoder, k)[2].square().sum(dim=1) for k in (1, 2, 3, 6)]
    assert all((later <= earlier).all() for earlier, later in zip(norms, norms[1:], strict=False))
    values, _, left = pursue(centred, weights.decoder, 5)
    total = values.square().sum(dim=1) + left.square().sum(dim=1)
    torch.testing.assert_close(total, centred.square().sum(dim=1))


def test_a_parent_and_its_child_are_found_where_one_look_finds_two_children() -> None:
    """Children that share most of their direction: x holds one, both correlate with x."""
    config = MatchingPursuit(latents=3, k=2)
    dictionary = config.dictionary(3, ORIGIN)
    rows = torch.nn.functional.normalize(
        torch.tensor([[1.0, 0.2, 0.0], [1.0, -0.2, 0.0], [0.0, 0.0, 1.0]]), dim=1
    )
    dictionary.W_dec.data, dictionary.W_enc.data = rows, rows.T.clone()
    x = rows[:1] + 0.4 * rows[2:]
    with torch.no_grad():
        torch.testing.assert_close(dictionary.encode(x), torch.tensor([[1.0, 0.0, 0.4]]))
    assert (x @ rows.T).topk(2).indices.tolist() == [[0, 1]]


def test_it_explains_more_with_as_many_latents_than_one_look_at_the_same_directions() -> None:
    source, config = Planted(batch=128), MatchingPursuit(latents=128, k=4)
    run = TrainConfig(tokens=128 * 100, batch=128, lr=1e-2)
    dictionary = finish(trainer_on(source, config, run), config)
    x = torch.from_numpy(source.draw(1000, 9))
    values, latents = dictionary.pre_activations(x).topk(4)
    once = torch.zeros(1000, 128).scatter(1, latents, values.relu())
    assert (x - dictionary(x)).square().sum() < 0.8 * (x - dictionary.decode(once)).square().sum()


@pytest.mark.parametrize("tolerance", [-0.1, 1.0, float("nan")])
def test_settings_that_cannot_work_are_refused(tolerance: float) -> None:
    with pytest.raises(ConfigError, match="tolerance is a share of the first value"):
        MatchingPursuit(tolerance=tolerance)
