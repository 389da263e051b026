"""Matryoshka: the mean of nested losses, and prefixes that reconstruct ever better."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import ConfigError
from interp.sae import BatchTopK, TrainConfig
from interp.sae.kernels import Backend, DenseBackend, Rule, Weights
from interp.sae.kernels.compiledstep import CompiledBackend
from interp.sae.kinds.matryoshka import Matryoshka, MatryoshkaBackend, MatryoshkaDictionary
from tests.sae.planted import Planted
from tests.sae.shared import CPU, finish, trainer_on
from tests.sae.test_kernels import problem, reference_loss

LENGTHS = (2, 5, 13)
BACKENDS = ("dense", "compiled")
NESTINGS = ("fixed", "random")
RULE = Rule(k=3, per="batch", aux_k=2, aux_coefficient=1 / 32)


def backend(name: str, lengths: tuple[int, ...] = LENGTHS) -> Backend:
    if name == "dense":
        return MatryoshkaBackend(lengths)
    compiled = CompiledBackend()
    compiled.prefixes = lengths
    return compiled


def by_hand(weights: Weights, x, rule: Rule, dead, held=None) -> dict:
    """Each prefix is the whole loss with all later latents' decoder rows set to zero."""
    whole = reference_loss(weights, x, rule, 5.0, dead, held)
    nested = []
    for length in LENGTHS:
        decoder = weights.decoder.clone()
        decoder[length:] = 0
        part = dataclasses.replace(weights, decoder=decoder)
        nested.append(reference_loss(part, x, rule, 5.0, None)["unexplained"])
    loss = sum(nested) / len(nested) + rule.aux_coefficient * whole["aux"]
    return {**whole, "nested": nested, "loss": loss}


@pytest.mark.parametrize("name", BACKENDS)
def test_the_loss_equals_an_independent_formula(name: str) -> None:
    weights, x, dead = problem(1, n=9, d_in=7, latents=13)
    result = backend(name).step(weights, x, RULE, 5.0, dead)
    expected = by_hand(weights, x, RULE, dead)
    assert len(set(expected["nested"])) == 3
    assert float(result.loss) == pytest.approx(expected["loss"], rel=1e-12)
    assert float(result.unexplained) == pytest.approx(expected["nested"][-1], rel=1e-12)
    assert float(result.aux) == pytest.approx(expected["aux"], rel=1e-12)
    assert float(result.l0) == (expected["codes"] > 0).sum() / 9
    assert float(result.smallest) == pytest.approx(expected["codes"][expected["codes"] > 0].min())


@pytest.mark.parametrize("name", BACKENDS)
def test_gradients_equal_finite_differences(name: str) -> None:
    """By every parameter, with AuxK's residual held constant as defined."""
    weights, x, dead = problem(2, n=6, d_in=5, latents=13)
    rule = dataclasses.replace(RULE, aux_coefficient=0.5)
    found = dict(backend(name).step(weights, x, rule, 5.0, dead).gradients.items())
    held = reference_loss(weights, x, rule, 5.0, dead)
    for key, tensor in weights.items():
        numeric = np.zeros(tensor.numel())
        for entry in range(tensor.numel()):
            sides = []
            for sign in (1, -1):
                moved = tensor.clone()
                moved.view(-1)[entry] += sign * 1e-6
                there = dataclasses.replace(weights, **{key: moved})
                sides.append(by_hand(there, x, rule, dead, held)["loss"])
            numeric[entry] = (sides[0] - sides[1]) / 2e-6
        np.testing.assert_allclose(found[key].reshape(-1).numpy(), numeric, atol=1e-7)


@pytest.mark.parametrize("name", BACKENDS)
def test_with_one_prefix_it_is_batchtopk(name: str) -> None:
    weights, x, dead = problem(3, n=20, d_in=7, latents=13)
    ours = backend(name, (13,)).step(weights, x, RULE, 5.0, dead)
    theirs = DenseBackend().step(weights, x, RULE, 5.0, dead)
    torch.testing.assert_close(ours.loss, theirs.loss)
    for (key, a), (_, b) in zip(ours.gradients.items(), theirs.gradients.items(), strict=True):
        torch.testing.assert_close(a, b, msg=key)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    n=st.sampled_from([1, 2, 17]),
    d_in=st.integers(1, 9),
    latents=st.integers(2, 40),
    levels=st.integers(1, 6),
    k=st.integers(1, 6),
    dead=st.sampled_from(["none", "some", "all"]),
    bias=st.sampled_from([0.0, -30.0, 30.0]),
)
def test_one_pass_equals_a_product_a_prefix_on_any_shape(
    seed, n, d_in, latents, levels, k, dead, bias
):
    weights, x, some = problem(seed, n, d_in, latents)
    weights.b_enc.add_(bias)
    mask = {"none": None, "some": some, "all": torch.ones_like(some)}[dead]
    inner = np.random.default_rng(seed).integers(1, latents, levels - 1).tolist()
    lengths = tuple(sorted({*inner, latents}))
    rule = Rule(k=min(k, latents), per="batch", aux_k=5, aux_coefficient=1 / 32)
    dense = backend("dense", lengths).step(weights, x, rule, 3.0, mask)
    found = backend("compiled", lengths).step(weights, x, rule, 3.0, mask)
    for field in ("loss", "unexplained", "aux", "l0", "smallest"):
        torch.testing.assert_close(getattr(found, field), getattr(dense, field))
    assert torch.equal(found.fired, dense.fired)
    pairs = zip(found.gradients.items(), dense.gradients.items(), strict=True)
    for (key, ours), (_, theirs) in pairs:
        scale = float(theirs.abs().max()) + 1e-300
        torch.testing.assert_close(ours / scale, theirs / scale, msg=key, rtol=1e-7, atol=1e-7)


def test_whole_trainings_agree() -> None:
    """500 float32 steps over lists and over dense arrays, the prefixes drawn anew every step."""
    curves = []
    for lists in (True, False):
        config = Matryoshka(latents=160, k=4, nesting="random")
        run = TrainConfig(tokens=500 * 128, batch=128, lr=3e-3, dead_after=10_000)
        trainer = trainer_on(Planted(d_in=32, features=64, batch=128), config, run)
        trainer.learner.lists = lists
        curves.append([float(trainer.step().loss) for _ in range(500)])
    unit = trainer_on(Planted(d_in=32, features=64, batch=128), config, run)
    unit.learner.weights.encoder.copy_(unit.learner.weights.decoder)  # not fitted to the data
    assert curves[0][-1] < min(curves[0][0], 0.6 * float(unit.step().loss))
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)


@pytest.mark.parametrize("name", BACKENDS)
def test_which_latents_each_prefix_and_auxk_reach(name: str) -> None:
    """A prefix's loss trains its own latents only; AuxK the dead ones only."""
    weights, x, dead = problem(4, n=40, d_in=8, latents=13)
    weights.b_enc[dead] -= 9.0  # the main selection never takes these
    off = dataclasses.replace(RULE, aux_coefficient=0.0)

    def parts(lengths, rule):
        return dict(backend(name, lengths).step(weights, x, rule, 5.0, dead).gradients.items())

    # the mean over (2, 13) less half of (13,) alone is half of the first prefix's loss
    whole = parts((13,), off)
    first = {key: value - whole[key] / 2 for key, value in parts((2, 13), off).items()}
    live = ~dead
    for key in ("encoder", "b_enc", "decoder"):
        assert first[key][:2][live[:2]].abs().sum() > 0
        assert first[key][2:].abs().max() < 1e-15
    weights.b_enc[dead] += 9.0
    weights.b_enc[live] += 9.0  # now AuxK has positive values to work with, and none win
    whole = parts((13,), off)
    aux = {key: value - whole[key] for key, value in parts((13,), RULE).items()}
    for key in ("encoder", "b_enc", "decoder"):
        assert aux[key][dead].abs().sum() > 0
        assert aux[key][live].abs().max() < 1e-14


def test_prefixes_reconstruct_ever_better_and_early_latents_better_than_batchtopks() -> None:
    source, k = Planted(batch=256, p=0.06), 6
    config, plain = Matryoshka(latents=128, k=k), BatchTopK(latents=128, k=k)
    run = TrainConfig(tokens=256 * 600, batch=256, lr=1e-2)
    ours, theirs = (finish(trainer_on(source, c, run), c) for c in (config, plain))
    assert isinstance(ours, MatryoshkaDictionary)
    x = torch.from_numpy(source.draw(4096, 9))

    def left(estimate: torch.Tensor) -> float:
        return float((x - estimate).square().sum() / (x - x.mean(dim=0)).square().sum())

    z = ours.encode(x)
    estimates = ours.decode_prefixes(z)
    assert len(estimates) == len(config.lengths(64)) == 5
    torch.testing.assert_close(estimates[-1], ours(x), rtol=1e-4, atol=1e-4)
    errors = [left(estimate) for estimate in estimates]
    assert all(later < earlier for earlier, later in zip(errors, errors[1:], strict=False)), errors
    early = config.lengths(64)[1]
    of_plain = left(theirs.encode(x)[:, :early] @ theirs.W_dec[:early] + theirs.b_dec)
    assert errors[1] < of_plain
    assert (z > 0).sum(dim=1).float().mean() == pytest.approx(k, rel=0.1)


def test_lengths_are_rounded_up_and_those_that_coincide_count_once() -> None:
    assert Matryoshka(latents=64).lengths(8) == (2, 6, 14, 30, 64)
    assert Matryoshka(latents=4).lengths(8) == (1, 2, 4)
    assert Matryoshka(latents=100, prefixes=(0.25, 1.0)).lengths(8) == (25, 100)
    learner = Matryoshka(latents=64, k=2).learner(8, CPU)
    assert isinstance(learner.backend, CompiledBackend)
    assert learner.backend.prefixes == (2, 6, 14, 30, 64)
    learner.lists = False
    assert isinstance(learner.nested((2, 64)), MatryoshkaBackend)


@pytest.mark.parametrize(
    "prefixes", [(), (0.5,), (0.0, 1.0), (0.5, 0.25, 1.0), (0.5, 0.5, 1.0), (0.5, 1.5), (-1.0, 1.0)]
)
def test_prefixes_that_cannot_work_are_refused(prefixes: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="prefixes are shares of the latents that rise"):
        Matryoshka(prefixes=prefixes)


def test_random_prefixes_are_drawn_anew_from_the_seed_and_stay_within_bounds() -> None:
    config = Matryoshka(latents=640, k=2, nesting="random")

    def drawn(seed: int) -> list[tuple[int, ...]]:
        learner = config.learner(16, CPU)
        learner.initialise(torch.zeros(16), torch.Generator().manual_seed(seed))
        return [learner.next_lengths() for _ in range(200)]

    lengths = drawn(0)
    assert lengths == drawn(0) != drawn(1)
    assert len(set(lengths)) > 190
    inner = [m for each in lengths for m in each[:-1]]
    assert all(each[-1] == 640 and list(each) == sorted(set(each)) for each in lengths)
    assert min(inner) >= 20
    assert max(inner) <= 640
    # log-uniform: half of them below the geometric mean of the bounds
    assert np.mean(np.array(inner) < np.sqrt(20 * 640)) == pytest.approx(0.5, abs=0.06)


def test_fixed_prefixes_need_no_state_and_leave_the_seed_alone() -> None:
    fixed, random = (Matryoshka(latents=32, k=2, nesting=n).learner(8, CPU) for n in NESTINGS)
    assert "prefix_draws" not in fixed.state()
    assert "prefix_draws" in random.state()
    assert [fixed.next_lengths() for _ in range(3)] == [(1, 3, 7, 15, 32)] * 3
