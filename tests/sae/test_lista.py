"""LISTA-Matryoshka: two looks, prefixes by frequency, and losses that stop where they should."""

import dataclasses

import numpy as np
import pytest
import torch

from interp.errors import ConfigError
from interp.sae import TrainConfig
from interp.sae.kernels import DenseBackend, Rule, Weights
from interp.sae.kinds.lista import Lista, ListaBackend, ListaDictionary, tilted
from interp.sae.kinds.matryoshka import Matryoshka
from tests.sae.planted import Planted
from tests.sae.shared import CPU, ORIGIN, finish, trainer_on
from tests.sae.test_kernels import problem

LENGTHS = (2, 5, 13)
ORDER = torch.tensor([4, 11, 0, 7, 2, 9, 12, 1, 3, 5, 6, 8, 10])
RULE = Rule(k=3, per="batch", aux_k=2, aux_coefficient=0.5)
CONFIG = Lista(latents=13, k=3, iterations=2, eta=0.3, tilt=0.7)


def chosen(pre: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` largest values of the array, if positive."""
    smallest = sorted(pre.ravel())[-count]
    return np.where((pre >= smallest) & (pre > 0), pre, 0.0)


def by_hand(weights: Weights, x, dead, held=None) -> dict:
    """In numpy float64; ``held`` is an earlier answer, for what the definition holds constant."""
    w, x = {name: tensor.numpy() for name, tensor in weights.items()}, x.numpy()
    centred = x - w["b_dec"]
    pre = centred @ w["encoder"].T + w["b_enc"]
    looks = [chosen(pre, 3 * len(x))]
    for _ in range(CONFIG.iterations):
        pre = pre + CONFIG.eta * (centred - looks[-1] @ w["decoder"]) @ w["encoder"].T
        looks.append(chosen(pre, 3 * len(x)))
    z, start, errors, parts = looks[-1], 0, [], []
    for level, end in enumerate(LENGTHS[:-1]):
        group = [int(j) for j in ORDER[start:end]]
        own = sum(np.outer(z[:, j], w["decoder"][j]) for j in group)
        before = centred if level == 0 else (held or {"parts": parts})["parts"][level - 1]
        parts.append(before - own)
        errors.append(before - own)
        start = end
    errors.append(centred - z @ w["decoder"])
    losses = []
    for level, error in enumerate(errors):
        squares = (error**2).sum(axis=1)
        if held:
            share = held["shares"][level]
        else:
            share = np.exp(CONFIG.tilt * squares / squares.mean())
            share = share / share.sum()
        losses.append((float(share @ squares) / 5.0, share))
    target, aux = errors[-1] if held is None else held["left"], 0.0
    spread = float(((target - target.mean(0)) ** 2).sum())
    for i, row in enumerate(target):
        best = sorted(np.flatnonzero(dead), key=lambda j: -pre[i, j])[: RULE.aux_k]
        estimate = sum(max(pre[i, j], 0) * w["decoder"][j] for j in best)
        aux += float(((row - estimate) ** 2).sum()) / spread
    return {
        "loss": sum(value for value, _ in losses) / len(losses) + 0.5 * aux,
        "shares": [share for _, share in losses],
        "parts": parts,
        "left": errors[-1],
        "looks": looks,
        "aux": aux,
    }


def test_the_loss_equals_an_independent_formula() -> None:
    weights, x, dead = problem(1, n=9, d_in=7, latents=13)
    backend = ListaBackend(CONFIG, LENGTHS, ORDER)
    result = backend.step(weights, x, RULE, 5.0, dead)
    expected = by_hand(weights, x, dead)
    assert float(result.loss) == pytest.approx(expected["loss"], rel=1e-12)
    assert float(result.aux) == pytest.approx(expected["aux"], rel=1e-12)
    assert float(result.unexplained) == pytest.approx((expected["left"] ** 2).sum() / 45)
    *early, last = expected["looks"]
    assert backend.early.tolist() == pytest.approx([look[look > 0].min() for look in early])
    assert float(result.smallest) == pytest.approx(last[last > 0].min())
    assert backend.frequency.tolist() == pytest.approx(((last > 0).mean(axis=0)).tolist())
    assert any((look > 0).tolist() != (last > 0).tolist() for look in early)


def test_gradients_equal_finite_differences() -> None:
    """Through both looks back; shorter prefixes, row weights and AuxK's target held constant."""
    weights, x, dead = problem(2, n=6, d_in=5, latents=13)
    step = ListaBackend(CONFIG, LENGTHS, ORDER).step(weights, x, RULE, 5.0, dead)
    found, held = dict(step.gradients.items()), by_hand(weights, x, dead)
    for key, tensor in weights.items():
        numeric = np.zeros(tensor.numel())
        for entry in range(tensor.numel()):
            sides = []
            for sign in (1, -1):
                moved = tensor.clone()
                moved.view(-1)[entry] += sign * 1e-6
                there = dataclasses.replace(weights, **{key: moved})
                sides.append(by_hand(there, x, dead, held)["loss"])
            numeric[entry] = (sides[0] - sides[1]) / 2e-6
        assert np.abs(numeric).max() > 1e-3
        np.testing.assert_allclose(found[key].reshape(-1).numpy(), numeric, atol=1e-7)


def test_which_latents_each_prefix_and_auxk_reach() -> None:
    """A prefix's loss trains its own latents only; AuxK the dead ones only, and not the offset."""
    weights, x, dead = problem(4, n=40, d_in=8, latents=13)
    once = dataclasses.replace(CONFIG, eta=0.0, tilt=0.0)  # looking back mixes the latents

    def parts(lengths, **rule):
        step = ListaBackend(once, lengths, ORDER).step
        result = step(weights, x, dataclasses.replace(RULE, **rule), 5.0, dead)
        return dict(result.gradients.items())

    whole, both = (parts(lengths, aux_coefficient=0.0) for lengths in ((13,), (5, 13)))
    aux = {key: value - whole[key] for key, value in parts((13,)).items()}
    for key in ("encoder", "b_enc", "decoder"):
        first = both[key] - whole[key] / 2  # the mean over both prefixes less half of one
        assert first[ORDER[:5]].abs().sum() > 0
        assert first[ORDER[5:]].abs().max() < 1e-15
        assert aux[key][dead].abs().sum() > 0
        assert aux[key][~dead].abs().max() < 1e-15


def test_tilting_weighs_large_errors_more_and_zero_is_the_mean() -> None:
    losses = torch.tensor([1.0, 2.0, 6.0])
    assert float(tilted(losses, 0.0)) == pytest.approx(3.0)
    weights = np.exp([1 / 3, 2 / 3, 2.0])
    assert float(tilted(losses, 1.0)) == pytest.approx(weights @ [1, 2, 6] / weights.sum())
    assert float(tilted(10 * losses, 1.0)) == pytest.approx(10 * float(tilted(losses, 1.0)))
    assert float(tilted(torch.zeros(3), 1.0)) == 0


def test_looking_back_takes_back_what_overlapping_latents_wrote_twice() -> None:
    config = Lista(latents=2, k=2, eta=0.5, iterations=8)
    dictionary = config.dictionary(2, ORIGIN)
    rows = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.7]]), dim=1)
    dictionary.W_dec.data, dictionary.W_enc.data = rows, rows.T.clone()
    x = 2.0 * rows[:1] + 1.0 * rows[1:]
    once = (x @ rows.T).relu()
    with torch.no_grad():
        z = dictionary.encode(x)
    truth = torch.tensor([[2.0, 1.0]])
    assert (z - truth).norm() < 0.5 * (once - truth).norm()


def test_the_saved_latents_are_sorted_by_frequency_and_encode_as_training_did() -> None:
    source, config = Planted(batch=256, bias=2.0), Lista(latents=96, k=4)
    trainer = trainer_on(source, config, TrainConfig(tokens=256 * 200, batch=256, lr=1e-2))
    dictionary = finish(trainer, config)
    assert isinstance(dictionary, ListaDictionary)
    x = torch.from_numpy(source.draw(4096, 9))
    z = dictionary.encode(x)
    active = (z > 0).float().mean(dim=0)
    assert np.corrcoef(active.numpy(), -np.arange(96))[0, 1] > 0.3
    assert float((z > 0).sum(dim=1).float().mean()) == pytest.approx(4, rel=0.15)
    order = trainer.learner.state()["frequency"].argsort(descending=True, stable=True)
    torch.testing.assert_close(dictionary.W_dec, trainer.learner.weights.decoder[order])
    parts = dictionary.decode_prefixes(z)
    torch.testing.assert_close(parts[-1], dictionary(x), rtol=1e-4, atol=1e-4)
    assert float(dictionary.early) > 0
    state, weight = trainer.learner.state(), trainer.learner.state()["threshold_weight"]
    expected = float(state["early_mean"] / weight) / trainer.scale
    assert float(dictionary.early) == pytest.approx(expected)


def test_with_no_look_back_and_no_tilt_the_whole_dictionarys_loss_is_batchtopks() -> None:
    weights, x, dead = problem(3, n=20, d_in=7, latents=13)
    plain = dataclasses.replace(CONFIG, eta=0.0, tilt=0.0)
    ours = ListaBackend(plain, (13,), ORDER).step(weights, x, RULE, 5.0, dead)
    theirs = DenseBackend().step(weights, x, RULE, 5.0, dead)
    torch.testing.assert_close(ours.loss, theirs.loss)
    for (key, a), (_, b) in zip(ours.gradients.items(), theirs.gradients.items(), strict=True):
        torch.testing.assert_close(a, b, msg=key)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"eta": -0.3}, "eta must be a number ≥ 0"),
        ({"tilt": float("nan")}, "tilt must be a number ≥ 0"),
        ({"prefixes": (0.5,)}, "prefixes are shares of the latents"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Lista(**wrong)


def test_it_is_a_kind_of_matryoshka() -> None:
    assert isinstance(Lista(), Matryoshka)
    assert Lista(k=8).label(16) == "lista-128-k8"
    assert isinstance(Lista(k=2).learner(8, CPU).backend, ListaBackend)
