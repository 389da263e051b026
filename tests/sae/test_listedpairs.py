"""Lists of the pairs that matter give the dense arrays' numbers, whatever the architecture."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.sae import TrainConfig, penalty
from interp.sae.kernels import listedpairs as module
from interp.sae.kinds.gated import Gated
from interp.sae.kinds.jumprelu import JumpReLU
from interp.sae.kinds.l1 import L1
from interp.sae.penalty import PenaltyLearner
from interp.sae.trainer import Trainer
from tests.sae.planted import Planted
from tests.sae.shared import CPU, small, trainer_on

KINDS = {
    "l1": L1(latents=24, l1_coefficient=0.3, preact_coefficient=0.2),
    "l1-annealed": L1(latents=24, l1_coefficient=0.3, preact_coefficient=0.2, p_end=0.3),
    "gated": Gated(latents=24, l1_coefficient=0.3, preact_coefficient=0.2),
    "step": JumpReLU(latents=24, l0_coefficient=0.07, preact_coefficient=0.3),
    "tanh": JumpReLU(latents=24, penalty="tanh", l0_coefficient=0.07, preact_coefficient=0.3),
    "quadratic-l0": JumpReLU(latents=24, penalty="quadratic-l0", target_l0=1.5),
}
every = pytest.mark.parametrize("kind", sorted(KINDS))


def problem(kind: str, seed: int, n: int, d_in: int, shift: float):
    """A learner in float64 with random weights, a batch, and some latents dead."""
    learner = KINDS[kind].learner(d_in, CPU)
    assert isinstance(learner, PenaltyLearner)
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64)

    weights = learner.weights.like([normal(*t.shape) for _, t in learner.weights.items()])
    weights.b_enc.add_(shift)
    if "log_threshold" in weights.extra:
        weights.extra["log_threshold"].mul_(0.3)
    learner.weights = weights
    learner.progress = 0.8
    return learner, 2 * normal(n, d_in), torch.rand(24, generator=draw) < 0.4


def both(learner: PenaltyLearner, x, dead):
    """The same step over lists and over dense arrays; both begin with the same state."""
    before = {name: tensor.clone() for name, tensor in learner.state().items()}
    found = []
    for lists in (True, False):
        learner.lists = lists
        for name, tensor in learner.state().items():
            tensor.copy_(before[name])
        result = learner.step(x, 5.0, dead)
        kept = learner.weights.like([g.clone() for _, g in result.gradients.items()])
        state = {name: tensor.clone() for name, tensor in learner.state().items()}
        found.append((dataclasses.replace(result, gradients=kept), state))
    return found


def assert_agree(listed, dense) -> None:
    for field in ("loss", "unexplained", "aux", "l0", "smallest"):
        torch.testing.assert_close(
            getattr(listed[0], field), getattr(dense[0], field), rtol=1e-10, atol=1e-12
        )
    assert torch.equal(listed[0].fired, dense[0].fired)
    pairs = zip(listed[0].gradients.items(), dense[0].gradients.items(), strict=True)
    for (key, ours), (_, theirs) in pairs:
        scale = max(float(theirs.abs().max()), 0.1)  # an exact zero is a difference of sums here
        torch.testing.assert_close(ours / scale, theirs / scale, msg=key, rtol=1e-9, atol=1e-10)
    for name, tensor in listed[1].items():
        torch.testing.assert_close(tensor, dense[1][name], msg=name)


@settings(deadline=None, max_examples=100)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    seed=st.integers(0, 2**16),
    n=st.sampled_from([1, 2, 7, 40]),
    d_in=st.sampled_from([1, 4, 9]),
    shift=st.sampled_from([-30.0, -3.0, 0.0, 30.0]),
    dead=st.sampled_from(["none", "some", "all"]),
    density=st.sampled_from([1.0, -1.0]),
    entries=st.sampled_from([1, 100, 2**20]),
)
def test_lists_and_compiled_passes_equal_the_formulas(
    kind, seed, n, d_in, shift, dead, density, entries
) -> None:
    """Nothing active, everything active, all dead, a row, a column; listed, and never listed.

    Lists are of three rows, of some, or of the whole batch.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "DENSITY", density)
        patch.setattr(module, "ENTRIES", entries)
        patch.setattr(module, "CHUNK", 8 * 3)  # bytes of float64: three rows at a time
        learner, x, some = problem(kind, seed, n, d_in, shift)
        mask = {"none": None, "some": some, "all": torch.ones_like(some)}[dead]
        assert_agree(*both(learner, x, mask))


@every
def test_dense_arrays_of_some_rows_at_a_time_equal_those_of_all(kind: str, monkeypatch) -> None:
    monkeypatch.setattr(module, "DENSITY", 0.0)
    monkeypatch.setattr(penalty, "ROWS", 7)
    learner, x, dead = problem(kind, 6, 40, 9, 0.0)
    assert_agree(*both(learner, x, dead))


@pytest.mark.parametrize("entries", [1, 100, 10**6])
def test_a_list_holds_about_as_many_pairs_as_it_may(entries: int, monkeypatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 8 * 3)
    monkeypatch.setattr(module, "ENTRIES", entries)
    parts, find = [], module.find

    def watched(*args, **limits):
        found = find(*args, **limits)
        assert found is not None
        parts.append((len(found.x), len(found.latents)))
        return found

    monkeypatch.setattr(module, "find", watched)
    monkeypatch.setattr(module, "DENSITY", 1.0)
    learner, x, _ = problem("l1", 7, 40, 9, -2.0)
    learner.step(x, 5.0, None)
    assert sum(rows for rows, _ in parts) == 40
    assert all(rows <= 3 or pairs < 2 * entries for rows, pairs in parts)
    assert {1: len(parts) == 14, 100: 2 < len(parts) < 14, 10**6: len(parts) == 1}[entries]


def test_formulas_may_ask_for_products_and_pre_activations_twice(monkeypatch) -> None:
    """Every gradient adds to the others', though their arrays lie in memory used again."""
    monkeypatch.setattr(module, "DENSITY", 1.0)
    learner, x, dead = problem("l1", 8, 40, 9, 0.0)
    loss = learner.loss

    def twice(pairs, dead):
        terms = loss(pairs, dead)
        z = pairs.pre().relu() * 0.5
        more = pairs.sums(z) @ pairs.norms() + pairs.unexplained(z)
        lifted = (pairs.products() + pairs.each(pairs.weights.b_enc)).relu()
        return dataclasses.replace(terms, aux=terms.aux + more + lifted.sum())

    monkeypatch.setattr(learner, "loss", twice)
    for density in (1.0, -1.0):
        monkeypatch.setattr(module, "DENSITY", density)
        assert_agree(*both(learner, x, dead))


def test_a_decoder_row_of_zeros_receives_what_the_formulas_give_it(monkeypatch) -> None:
    for density in (1.0, -1.0):
        monkeypatch.setattr(module, "DENSITY", density)
        learner, x, dead = problem("l1", 9, 40, 9, 0.0)
        learner.weights.decoder[3] = 0
        assert_agree(*both(learner, x, dead))


@every
@pytest.mark.parametrize("density", [1.0, -1.0])
def test_the_threads_change_no_byte(kind: str, density: float, monkeypatch) -> None:
    monkeypatch.setattr(module, "DENSITY", density)
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        learner, x, dead = problem(kind, 3, 40, 9, -2.0)
        result = learner.step(x, 5.0, dead)
        found.append([result.loss, *(g.clone() for _, g in result.gradients.items())])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@every
def test_nan_in_a_weight_shows_in_the_loss(kind: str, monkeypatch) -> None:
    monkeypatch.setattr(module, "DENSITY", -1.0)
    learner, x, dead = problem(kind, 1, 5, 4, 0.0)
    learner.weights.encoder[3, 2] = math.nan
    assert learner.step(x, 5.0, dead).loss.isnan()


def listings(monkeypatch) -> list[bool]:
    """Told of every step whether it was listed."""
    told: list[bool] = []
    find = module.find

    def watched(*args, **limits):
        found = find(*args, **limits)
        told.append(found is not None)
        return found

    monkeypatch.setattr(module, "find", watched)
    return told


def training(kind: str, lists: bool) -> Trainer:
    config = small(kind, latents=160)
    run = TrainConfig(tokens=500 * 128, batch=128, lr=3e-3, dead_after=3000)
    trainer = trainer_on(Planted(d_in=32, features=64, batch=128), config, run)
    trainer.learner.lists = lists
    return trainer


@pytest.mark.parametrize("kind", ["l1", "gated", "jumprelu"])
def test_loss_curves_of_whole_trainings_agree(kind: str, monkeypatch) -> None:
    """500 float32 steps, dense at first and listed as soon as few pairs matter, all to 1e-4.

    A pre-activation within rounding of its gate may be active in one training only, depending on
    the processor; from then on there would be two. So where the numbers of active pairs differ,
    which must be seldom and by few, the dense training goes on from the other's state.
    """
    monkeypatch.setattr(module, "DENSITY", 0.3)  # of few latents
    told = listings(monkeypatch)
    ours, dense = training(kind, lists=True), training(kind, lists=False)
    losses, parted = [], []
    for _ in range(500):
        found, expected = ours.step(), dense.step()
        losses.append(float(found.loss))
        assert losses[-1] == pytest.approx(float(expected.loss), rel=1e-4)
        if apart := round(128 * abs(float(found.l0) - float(expected.l0))):
            parted.append(apart)
            tensors, state = ours.save()
            dense.load({name: tensor.clone() for name, tensor in tensors.items()}, state)
    assert len(parted) < 25
    assert max(parted, default=0) <= 3
    assert told[-1]
    assert kind == "jumprelu" or not told[0]
    assert losses[-1] < 0.5 * losses[0]


def test_which_way_is_taken_depends_on_weights_and_batch_alone(monkeypatch) -> None:
    told = listings(monkeypatch)
    learner, x, dead = problem("l1", 4, 40, 9, 0.0)
    assert (x - learner.weights.b_dec).matmul(learner.weights.encoder.T).gt(0).float().mean() > 0.1
    first = learner.step(x, 5.0, dead)
    learner.weights.b_enc.sub_(20.0)
    learner.step(x, 5.0, dead)
    learner.weights.b_enc.add_(20.0)
    again = learner.step(x, 5.0, dead)
    assert told == [False, True, False]
    assert math.isclose(float(first.loss), float(again.loss), rel_tol=1e-12)


def test_weights_that_are_no_numbers_show_in_the_loss() -> None:
    learner, x, _ = problem("step", 5, 40, 9, -5.0)
    learner.weights.b_dec[3] = torch.nan
    assert learner.step(x, 5.0, None).loss.isnan()


@pytest.mark.parametrize("kind", ["l1", "matryoshka"])
def test_under_bf16_dense_arrays_are_used_which_autocast_reaches(kind: str, monkeypatch) -> None:
    told = listings(monkeypatch)
    run = TrainConfig(tokens=64 * 2, batch=64, precision="bf16")
    trainer = trainer_on(Planted(batch=64), small(kind, latents=96, k=4), run)
    trainer.step()
    assert not told
    assert not trainer.learner.lists
    assert type(getattr(trainer.learner, "backend", None)).__name__ != "CompiledBackend"
