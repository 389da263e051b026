"""Modular addition against a transformer and waves written out by hand, in float64."""

import numpy as np
import pytest
import torch

from interp.errors import ConfigError
from interp.lab.results.progress_measures import halved
from interp.lab.toys.modular import (
    Modular,
    ModularConfig,
    all_pairs,
    answers,
    grok,
    losses,
)
from interp.lab.toys.waves import (
    along_sums,
    key_frequencies,
    logits_explained,
    neurons_explained,
    one_frequency,
    progress_losses,
)

SMALL = ModularConfig(
    p=7, d_model=12, heads=3, d_mlp=20, share=0.5, lr=0.01, epochs=40, snapshots=4
)


def by_hand(model: Modular, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits at "=" and neurons, every position computed and masked as in any transformer."""
    w = {name: value.detach().double().numpy() for name, value in model.named_parameters()}
    x = w["W_E"][[a, b, model.config.p]] + w["W_pos"]
    written = np.zeros_like(x)
    for head in range(model.config.heads):
        q, k, v = (x @ w[name][head] for name in ("W_Q", "W_K", "W_V"))
        scores = q @ k.T / np.sqrt(q.shape[1])
        scores[np.triu_indices(3, 1)] = -np.inf
        pattern = np.exp(scores - scores.max(axis=1, keepdims=True))
        written += (pattern / pattern.sum(axis=1, keepdims=True)) @ v @ w["W_O"][head]
    middle = x + written
    neurons = np.maximum(middle @ w["W_in"] + w["b_in"], 0)
    return ((middle + neurons @ w["W_out"] + w["b_out"]) @ w["W_U"])[2], neurons[2]


def test_the_transformer_is_the_one_written_out_by_hand():
    model = Modular(SMALL, seed=3)
    with torch.no_grad():
        model.b_in.normal_()
        model.b_out.normal_()
    pairs = all_pairs(7)
    logits, cache = model.run_with_cache(pairs)
    for number in (0, 9, 33, 48):
        wanted, neurons = by_hand(model, *pairs[number].tolist())
        np.testing.assert_allclose(logits[number].detach(), wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(cache["hook_mlp_post"][number], neurons, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(cache["hook_pattern"].sum(dim=-1), torch.ones(49, 3))


def test_losses_are_exact_however_small():
    logits = torch.tensor([[0.0, 30.0, 1.0], [2.0, -1.0, 0.5], [90.0, 0.0, -200.0]])
    answer = torch.tensor([1, 2, 1])
    x = logits.double().numpy()
    others = [x[0, [0, 2]] - 30, x[1, [0, 1]] - 0.5, x[2, [0, 2]]]
    wanted = [np.log1p(np.exp(each).sum()) for each in others]
    np.testing.assert_allclose(losses(logits, answer), wanted, rtol=1e-6)
    assert wanted[0] < 1e-12  # which log_softmax in float32 rounds to 0
    rows = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda z: losses(z, torch.tensor([0, 4, 2, 1])), rows)


def test_a_run_trains_on_its_share_and_is_kept():
    run = grok(SMALL, seed=0)
    assert grok(SMALL, seed=0) is run
    assert [s.epoch for s in run.snapshots] == [0, 10, 20, 30, 40]
    assert len(set(run.train.tolist())) == len(run.train) == round(0.5 * 49)
    first, last = run.snapshots[0], run.snapshots[-1]
    assert last.loss[0] < 0.8 * first.loss[0]
    model = run.model(-1)
    logits = model(all_pairs(7))
    each = torch.nn.functional.cross_entropy(
        logits.double(), answers(all_pairs(7), 7), reduction="none"
    )
    test = np.setdiff1d(np.arange(49), run.train.numpy())
    right = logits.argmax(dim=1) == all_pairs(7).sum(dim=1) % 7
    for i, some in enumerate((run.train.numpy(), test)):
        assert last.loss[i] == pytest.approx(each.numpy()[some].mean(), rel=1e-5)
        assert last.accuracy[i] == pytest.approx(right.numpy()[some].mean())
    size = sum(float(np.square(w.numpy().astype(float)).sum()) for w in model.parameters())
    assert last.squared_norm == pytest.approx(size)
    assert run.first(0.0, test=True) == 0
    assert run.first(1.1, test=False) == float("inf")
    other = grok(SMALL, seed=1)
    assert other.train.tolist() != run.train.tolist()


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({"p": 8}, "odd"),
        ({"heads": 5}, "multiple of heads"),
        ({"share": 1.0}, "share"),
        ({"epochs": 0}, "epochs"),
        ({"snapshots": 0}, "snapshots"),
        ({"lr": 0.0}, "lr"),
    ],
)
def test_impossible_settings_are_refused(setting, text):
    with pytest.raises(ConfigError, match=text):
        ModularConfig(**setting)


# -- waves ----------------------------------------------------------------------------------------


def grid(p: int) -> tuple[np.ndarray, np.ndarray]:
    return np.meshgrid(np.arange(p), np.arange(p), indexing="ij")


def test_one_frequency_is_the_share_that_least_squares_explains():
    p, k = 11, 3
    a, b = grid(p)
    values = np.random.default_rng(0).standard_normal((2, p, p))
    w = 2 * np.pi * k / p
    values[0] += 4 * np.cos(w * a + 1) * np.sin(w * b) + 3 * np.cos(w * b)
    sines = [np.ones_like(a * w), np.cos(w * a), np.sin(w * a)]
    waves = [x * y for x in sines for y in (np.ones_like(a * w), np.cos(w * b), np.sin(w * b))]
    basis = np.stack([wave.ravel() for wave in waves], axis=1)
    y = values[0].ravel()
    residual = y - basis @ np.linalg.lstsq(basis, y, rcond=None)[0]
    share, frequency = one_frequency(torch.from_numpy(values))
    assert float(share[0]) == pytest.approx(1 - residual.var() / y.var())
    assert float(frequency[0]) == k
    pure = np.cos(w * a) - 2 * np.sin(w * a + w * b)
    assert float(one_frequency(torch.from_numpy(pure[None]))[0]) == pytest.approx(1)
    assert float(one_frequency(torch.ones(1, p, p))[0]) == pytest.approx(0, abs=1e-9)


def test_neurons_are_laid_out_by_a_and_b():
    """A neuron that reads a alone: nothing it does may depend on b."""
    model = Modular(SMALL)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            weights.zero_()
            if name == "W_V":
                weights[0, :, 0] = 1
        model.W_E[:7, 0] = torch.cos(2 * torch.pi * 2 * torch.arange(7) / 7)
        model.W_pos[1, 1] = -9.0  # b is never looked at: its values go to a neuron of their own
        model.W_O[0, 0, 0] = 1
        model.W_in[0, 0] = 1
        model.b_in += 20
    share, frequency = neurons_explained(model)
    assert float(share[0]) == pytest.approx(1, abs=1e-4)
    assert float(frequency[0]) == 2


def test_key_frequencies_hold_the_most_with_the_fewest():
    model = Modular(ModularConfig(p=11, d_model=12, heads=3, d_mlp=20, epochs=1, snapshots=1))
    turn = 2 * torch.pi * torch.arange(11) / 11
    with torch.no_grad():
        model.W_out.zero_()
        model.W_out[:4, :4] = torch.eye(4)
        model.W_U.zero_()
        model.W_U[0], model.W_U[1] = 3 * torch.cos(4 * turn), 3 * torch.sin(4 * turn)
        model.W_U[2], model.W_U[3] = 2 * torch.cos(2 * turn), 0.5 * torch.cos(5 * turn) + 7
    # Squared norms 9 + 9, 4 and .25: without the last, .989 of the whole; without two, .81.
    assert key_frequencies(model) == [4, 2]


def test_sums_keep_their_waves_and_nothing_else():
    p = 11
    turn = 2 * np.pi / p
    pairs = all_pairs(p)
    answer = np.arange(p)
    sums = (pairs.sum(dim=1).numpy() % p)[:, None]
    key = 2 * np.cos(3 * turn * (sums - answer)) - np.sin(5 * turn * (sums + 2 * answer))
    rest = np.cos(4 * turn * (sums - answer)) + np.cos(3 * turn * pairs[:, :1].numpy()) + answer
    kept = along_sums(torch.from_numpy(key + rest), [3, 5], p)
    np.testing.assert_allclose(kept, key, atol=1e-12)


def test_progress_losses_and_logits_explained_against_a_plain_fourier_transform():
    config = ModularConfig(p=5, d_model=8, heads=2, d_mlp=16, epochs=1, snapshots=1)
    model, keys = Modular(config, seed=2), [2]
    train = torch.tensor([0, 3, 7, 20])
    logits = model(all_pairs(5)).detach().double().numpy()
    cube = logits.reshape(5, 5, 5)
    waves = np.fft.fft2(cube, axes=(0, 1))
    only, constant = np.zeros_like(waves), np.zeros_like(waves)
    for k in (2, 3):  # waves of a + b have one frequency in both
        only[k, k] = waves[k, k]
    constant[0, 0] = waves[0, 0]
    kept, mean = (np.fft.ifft2(each, axes=(0, 1)).real.reshape(25, 5) for each in (only, constant))
    wanted = all_pairs(5).sum(dim=1).numpy() % 5

    def entropy(z: np.ndarray) -> np.ndarray:
        chances = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        return -np.log(chances[np.arange(25), wanted])

    restricted, excluded = progress_losses(model, keys, train)
    assert restricted == pytest.approx(entropy(kept + mean).mean())
    assert excluded == pytest.approx(entropy(logits - kept)[train].mean())
    centred = logits - logits.mean(axis=1, keepdims=True)
    turn = 2 * np.pi * 2 / 5 * (wanted[:, None] - np.arange(5))
    wave = np.cos(turn) / np.linalg.norm(np.cos(turn))
    share = float((centred * wave).sum() ** 2 / np.square(centred).sum())
    assert logits_explained(model, keys) == pytest.approx(share)


def test_a_loss_halves_after_its_peak():
    assert halved([1.0, 0.4, 8.0, 5.0, 4.0, 1.0]) == 4
    assert halved([1.0, 2.0, 3.0]) == 2
