"""TopK: k, Multi-TopK's loss and gradients, the schedule of k, its family's frozen decoder."""

import dataclasses

import numpy as np
import pytest
import torch

from interp.errors import ConfigError
from interp.sae import BatchTopK, TopK, TrainConfig
from interp.sae.kernels import Rule, Weights
from tests.sae.planted import Planted
from tests.sae.shared import CPU, finish, small, trainer_on
from tests.sae.test_kernels import problem, reference_loss

CONFIG = TopK(latents=13, k=2, aux_k=2, aux_coefficient=0.5, multi_coefficient=0.3)
RULE = Rule(k=2, per="row", aux_k=2, aux_coefficient=0.5)


def test_each_row_has_exactly_k_active_latents_in_training_and_after() -> None:
    source, chosen = Planted(batch=128), TopK(latents=256, k=5)
    trainer = trainer_on(source, chosen, TrainConfig(tokens=128 * 30, batch=128, lr=1e-2))
    while not trainer.finished:
        assert float(trainer.step().l0) == 5
    dictionary = finish(trainer, chosen)
    x = torch.from_numpy(source.draw(100, 9))
    z = dictionary.encode(x)
    assert ((z > 0).sum(dim=1) == 5).all()
    values, indices = dictionary.encode_sparse(x)
    assert torch.equal(torch.zeros_like(z).scatter(1, indices, values), z)
    assert (values.diff(dim=1) <= 0).all()


def learner_with(config: TopK, weights: Weights):
    learner = config.learner(weights.decoder.shape[1], CPU)
    learner.weights = weights
    return learner


def by_hand(weights: Weights, x, dead, held=None) -> float:
    """Two independent losses, with 2 and with 8 latents."""
    wide = dataclasses.replace(RULE, k=8, aux_k=0)
    main = reference_loss(weights, x, RULE, 5.0, dead, held)["loss"]
    return main + 0.3 * reference_loss(weights, x, wide, 5.0, None)["unexplained"]


def test_multi_topk_is_the_loss_with_k_and_a_share_of_that_with_4k() -> None:
    weights, x, dead = problem(1, n=9, d_in=9, latents=13)
    result = learner_with(CONFIG, weights).step(x, 5.0, dead)
    assert float(result.loss) == pytest.approx(by_hand(weights, x, dead), rel=1e-12)
    plain = learner_with(dataclasses.replace(CONFIG, multi_coefficient=0.0), weights)
    without = plain.step(x, 5.0, dead)
    assert float(result.loss) > float(without.loss)
    for name in ("unexplained", "aux", "l0", "smallest"):  # those of k latents
        assert getattr(result, name) == getattr(without, name)
    assert torch.equal(result.fired, without.fired)


def test_multi_topk_gradients_equal_finite_differences_for_every_parameter() -> None:
    weights, x, dead = problem(2, n=6, d_in=8, latents=13)
    found = dict(learner_with(CONFIG, weights).step(x, 5.0, dead).gradients.items())
    held = reference_loss(weights, x, RULE, 5.0, dead)
    for key, tensor in weights.items():
        numeric = np.zeros(tensor.numel())
        for entry in range(tensor.numel()):
            sides = []
            for sign in (1, -1):
                moved = tensor.clone()
                moved.view(-1)[entry] += sign * 1e-6
                there = dataclasses.replace(weights, **{key: moved})
                sides.append(by_hand(there, x, dead, held))
            numeric[entry] = (sides[0] - sides[1]) / 2e-6
        assert np.abs(numeric).max() > 1e-3
        np.testing.assert_allclose(found[key].reshape(-1).numpy(), numeric, atol=1e-7)


def test_multi_topk_reaches_encoders_of_latents_that_k_leaves_out() -> None:
    """A peer's gives the encoder none at all."""
    weights, x, _ = problem(3, n=5, d_in=9, latents=13)
    config = dataclasses.replace(CONFIG, aux_k=0)
    both = learner_with(config, weights).step(x, 5.0, None)
    more = {key: g[~both.fired].abs().sum() for key, g in both.gradients.items() if key != "b_dec"}
    assert (~both.fired).any()
    assert all(value > 0 for value in more.values()), more


def test_multi_topk_uses_no_more_latents_than_there_are() -> None:
    weights, x, _ = problem(4, n=5, d_in=9, latents=6)
    result = learner_with(TopK(latents=6, k=2, multi_coefficient=1.0), weights).step(x, 5.0, None)
    assert torch.isfinite(result.loss)


@pytest.mark.slow
def test_a_dictionary_trained_by_multi_topk_serves_more_than_k_latents() -> None:
    source = Planted(batch=256, p=0.06)
    run = TrainConfig(tokens=256 * 500, batch=256, lr=1e-2)
    x = torch.from_numpy(source.draw(2048, 9))

    def left(coefficient: float, k: int) -> float:
        config = TopK(latents=128, k=3, multi_coefficient=coefficient)
        dictionary = finish(trainer_on(source, config, run), config)
        dictionary.config = dataclasses.replace(config, k=k)
        return float((x - dictionary(x)).square().sum() / (x - x.mean(dim=0)).square().sum())

    assert left(0.125, 12) < left(0.0, 12)


def test_k_falls_linearly_in_whole_numbers() -> None:
    config = BatchTopK(k=4, start_k=10, k_anneal=0.5)
    found = [config.k_at(progress) for progress in (0.0, 0.05, 0.25, 0.49, 0.5, 0.9, 1.0)]
    assert found == [10, 9, 7, 4, 4, 4, 4]
    assert {BatchTopK(k=4).k_at(progress) for progress in (0.0, 0.3, 1.0)} == {4}
    learner = dataclasses.replace(config, latents=64).learner(16, CPU)
    learner.initialise(torch.zeros(16), torch.Generator().manual_seed(0))
    x = torch.randn(50, 16, generator=torch.Generator().manual_seed(1))
    for progress, k in ((0.0, 10), (0.25, 7), (0.75, 4)):
        learner.progress = progress
        assert float(learner.step(x, 16.0, None).l0) == k


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "matryoshka", "lista", "matchingpursuit"])
def test_a_frozen_decoder_does_not_move_by_a_bit_while_the_rest_learns(kind: str) -> None:
    source = Planted(batch=64, bias=1.0)
    chosen = small(kind, latents=96, k=4, frozen_decoder=True)
    run = TrainConfig(tokens=64 * 40, batch=64, lr=1e-2, dead_after=500)
    trainer = trainer_on(source, chosen, run)
    before = {name: tensor.clone() for name, tensor in trainer.learner.weights.items()}
    dictionary = finish(trainer, chosen)
    after = dict(trainer.learner.weights.items())
    assert torch.equal(after["decoder"], before["decoder"])
    assert not torch.equal(after["b_dec"], before["b_dec"])
    assert torch.equal(after["encoder"], before["encoder"]) == (kind == "matchingpursuit")
    rows = {tuple(row) for row in dictionary.W_dec.tolist()}
    assert rows == {tuple(row) for row in before["decoder"].tolist()}
    assert chosen.label(64).endswith("k4-frozen")


def test_names_tell_settings_apart() -> None:
    assert TopK().label(16) == "topk-128-k32"
    assert TopK(multi_coefficient=0.125).label(16) == "topk-128-k32-multi"
    assert TopK(k=4, start_k=9, frozen_decoder=True).label(16) == "topk-128-k9to4-frozen"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"multi_coefficient": -0.1}, "multi_coefficient must be a number ≥ 0, got -0.1"),
        ({"k": 8, "start_k": 7}, "start_k falls to k=8, so it cannot be 7"),
        ({"k_anneal": 0.0}, "k_anneal is a share of the run"),
        ({"k_anneal": 1.5}, "k_anneal is a share of the run"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TopK(**wrong)


def test_a_start_beyond_the_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="start_k=20 is more than the 128 latents or .* 16"):
        TopK(k=4, start_k=20).check(16)
