"""The toy models against formulas written out by hand, in float64."""

import numpy as np
import pytest
import torch

from interp.errors import ConfigError, DataError
from interp.lab.toys.computation import (
    Computation,
    features_per_neuron,
    living,
    monosemantic,
    primary_share,
)
from interp.lab.toys.fitting import evaluate, fit
from interp.lab.toys.sampling import (
    anticorrelated_pairs,
    check_density,
    correlated_pairs,
    independent,
)
from interp.lab.toys.superposition import (
    Superposition,
    cosines,
    dimensionality,
    features_per_dimension,
    represented,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_independent_features_have_their_density_and_are_uniform():
    density = torch.tensor([[0.5, 0.05, 1.0], [0.01, 0.2, 0.9]])
    x = independent(density)(100_000, generator())
    active = x > 0
    np.testing.assert_allclose(active.double().mean(dim=1), density, atol=0.006)
    for instance, feature in ((0, 0), (0, 2), (1, 2)):
        values = x[instance, :, feature][active[instance, :, feature]].double()
        deciles = torch.quantile(values, torch.linspace(0.1, 0.9, 9, dtype=torch.float64))
        np.testing.assert_allclose(deciles, np.linspace(0.1, 0.9, 9), atol=0.01)
    both = (active[0, :, 0] & active[0, :, 2]).double().mean()
    assert abs(both - 0.5) < 0.01


def test_signed_features_are_symmetric():
    x = independent(torch.full((1, 2), 0.5), signed=True)(100_000, generator())
    active = x[x != 0].double()
    assert abs(len(active) / x.numel() - 0.5) < 0.006
    assert abs(active.mean()) < 0.01
    assert abs(active.square().mean() - 1 / 3) < 0.01
    assert active.min() < -0.99


def test_pairs_come_together_or_never():
    together = correlated_pairs(2, 3, 0.2)(20_000, generator()) > 0
    assert torch.equal(together[..., 0::2], together[..., 1::2])
    apart = anticorrelated_pairs(2, 3, 0.2)(20_000, generator()) > 0
    assert not (apart[..., 0::2] & apart[..., 1::2]).any()
    for active in (together, apart):
        np.testing.assert_allclose(active.double().mean(dim=(0, 1)), 0.2, atol=0.01)
        across = (active[..., 0] & active[..., 2]).double().mean()
        assert abs(across - 0.04) < 0.006


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1])
def test_a_density_that_is_no_share_is_refused(density):
    with pytest.raises(ConfigError, match="density is the share"):
        check_density(0.5, density)


@pytest.mark.parametrize("hidden", ["relu", "linear"])
@pytest.mark.parametrize("kind", ["relu", "linear"])
def test_the_model_is_the_formula(kind, hidden):
    model = Superposition(3, 5, 2, seed=1, activation=kind, hidden_activation=hidden)
    torch.nn.init.normal_(model.b, generator=generator())
    x = torch.randn(3, 7, 5, generator=generator(2))
    given = model(x).detach().numpy()
    for i in range(3):
        W, b = (tensor[i].detach().double().numpy() for tensor in (model.W, model.b))
        for row in range(7):
            inner = W @ x[i, row].double().numpy()
            wanted = W.T @ (np.maximum(inner, 0) if hidden == "relu" else inner) + b
            wanted = np.maximum(wanted, 0) if kind == "relu" else wanted
            np.testing.assert_allclose(given[i, row], wanted, rtol=1e-4, atol=1e-5)


def test_the_models_have_hooks():
    model = Superposition(2, 5, 2)
    x = torch.rand(2, 4, 5, generator=generator())
    out, cache = model.run_with_cache(x)
    assert cache["hook_hidden"].shape == (2, 4, 2)
    assert torch.equal(cache["hook_out"], out)
    zeroed = model.run_with_hooks(x, fwd_hooks=[("hook_hidden", lambda h, hook: 0 * h)])
    assert torch.equal(zeroed, torch.zeros_like(x))
    _, cache = Computation(2, 3, 6).run_with_cache(x[..., :3])
    assert cache["hook_hidden"].shape == (2, 4, 6)


def test_computation_is_the_formula():
    model = Computation(2, 3, 4, seed=3)
    x = torch.randn(2, 5, 3, generator=generator())
    given = model(x).detach().numpy()
    for i in range(2):
        first, second = (tensor[i].detach().numpy() for tensor in (model.W_in, model.W_out))
        for row in range(5):
            wanted = np.maximum(second @ np.maximum(first @ x[i, row].numpy(), 0), 0)
            np.testing.assert_allclose(given[i, row], wanted, rtol=1e-4, atol=1e-5)
    shares = primary_share(torch.tensor([[[3.0, -1.0], [0.0, 0.0]]]))
    np.testing.assert_allclose(shares, [[0.75, 0.0]])


def test_monosemantic_neurons_are_counted_among_the_living():
    W = torch.tensor([[[3.0, -1, 0], [1, 1, 1], [0, 0, 0.2]], [[0, 0, -1], [0, 2, 0], [0, 0, 0]]])
    assert living(W).tolist() == [[True, True, False], [True, True, False]]
    assert monosemantic(W) == [0.5, 1.0]
    assert np.isnan(monosemantic(torch.zeros(1, 2, 3))).all()


def test_features_per_neuron_count_equal_weights():
    W = torch.tensor([[[3.0, 0, 0, 0], [1, -1, 1, 0], [0, 0, 0, 0], [2, 1, 0, 0]]])
    np.testing.assert_allclose(features_per_neuron(W), [[1, 3, 0, 25 / 17]], rtol=1e-9)


def test_dimensionality_of_known_geometries():
    """Pentagon 2/5, digon 1/2, triangle 2/3, alone 1, absent 0; the sum is the rank."""
    turn = 2 * np.pi * np.arange(5) / 5
    pentagon = np.stack([np.cos(turn), np.sin(turn)])
    digon = np.array([[1.0, -1, 0, 0, 0], [0, 0, 2, 0, 0]])
    W = torch.from_numpy(np.stack([1.3 * pentagon, digon])).float()
    np.testing.assert_allclose(dimensionality(W)[0], 0.4, atol=1e-6)
    np.testing.assert_allclose(dimensionality(W)[1], [0.5, 0.5, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(features_per_dimension(W), [1.69 * 5 / 2, 3.0], rtol=1e-6)
    assert represented(W)[1].tolist() == [True, True, True, False, False]
    np.testing.assert_allclose(cosines(W)[0, 0, 1], np.cos(2 * np.pi / 5), atol=1e-6)


def test_dimensionality_equals_the_formula_written_out():
    W = np.random.default_rng(0).standard_normal((4, 9))
    columns = W.T
    wanted = [
        w @ w / sum((w / np.linalg.norm(w) @ other) ** 2 for other in columns) for w in columns
    ]
    found = dimensionality(torch.from_numpy(W)[None].float())
    np.testing.assert_allclose(found[0], wanted, rtol=1e-5)


def test_an_instance_trains_as_it_would_alone():
    """What the others are, even how important they are, changes nothing."""
    x = torch.rand(3, 64, 5, generator=generator())

    def trained(keep: slice, importance: torch.Tensor) -> torch.Tensor:
        model = Superposition(3, 5, 2, seed=4)
        alone = Superposition(len(range(3)[keep]), 5, 2)
        with torch.no_grad():
            alone.W.copy_(model.W[keep])
        fit(alone, lambda *_: x[keep], importance[keep], steps=20, batch=64, lr=1e-2, seed=0)
        return alone.W.detach()

    importance = torch.rand(3, 5, generator=generator(1)) + 0.5
    whole = trained(slice(0, 3), importance)
    torch.testing.assert_close(trained(slice(1, 2), importance), whole[1:2])


def test_the_loss_is_weighted_by_importance_and_fresh():
    model = Superposition(1, 2, 1)
    with torch.no_grad():
        model.W.zero_()
    importance = torch.tensor([[1.0, 10.0]])
    sample = independent(torch.tensor([[1.0, 0.5]]))
    loss = evaluate(model, sample, importance, seed=0, rows=20_000)
    assert loss.item() == pytest.approx(1 / 3 + 10 * 0.5 / 3, rel=0.03)


def test_training_is_repeatable_and_lowers_the_loss():
    def run(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        model = Superposition(2, 4, 2, seed=0)
        sample = independent(torch.full((2, 4), 0.2))
        losses = fit(model, sample, torch.ones(2, 4), steps=steps, batch=64, lr=1e-2, seed=3)
        return losses, model.W.detach()

    assert torch.equal(run(30)[1], run(30)[1])
    assert (run(200)[0] < 0.7 * run(1)[0]).all()


def test_a_training_that_diverges_says_so():
    model = Superposition(1, 4, 2)
    sample = independent(torch.full((1, 4), 0.5))
    with pytest.raises(DataError, match="lower its lr"):
        fit(model, sample, torch.ones(1, 4), steps=50, batch=8, lr=1e30, seed=0)


def test_impossible_sizes_are_refused():
    with pytest.raises(ConfigError, match="nothing to superpose"):
        Superposition(1, 3, 4)
    for sizes in ((0, 3, 2), (1, 0, 0), (1, 3, 0)):
        with pytest.raises(ConfigError, match="at least 1"):
            Superposition(*sizes)
        with pytest.raises(ConfigError, match="at least 1"):
            Computation(*sizes)
