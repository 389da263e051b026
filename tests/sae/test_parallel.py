"""Several processes compute the step that one computes, whichever way it is divided."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp.errors import ConfigError
from interp.sae import (
    L1,
    BatchTopK,
    Gated,
    JumpReLU,
    MatchingPursuit,
    Matryoshka,
    TopK,
    TrainConfig,
)
from interp.sae.job import Job
from interp.sae.kernels import DenseBackend, Rule, StepResult, Weights
from interp.sae.parallel import ALONE, Mesh
from interp.sae.parallel.step import ParallelBackend
from interp.sae.parallel.team import Team
from interp.sae.parallel.trainer import check, learner_of, trainer_of
from tests.sae.grid import on_a_grid
from tests.sae.planted import Planted
from tests.sae.shared import CPU, ORIGIN
from tests.sae.test_kernels import problem

DIVISIONS = [(1, 1), (2, 1), (1, 2), (3, 1), (1, 3), (2, 2)]
VARIANCE = 3.0


def divided(weights: Weights, x, rule: Rule, dead, rows: int, parts: int, steps: int = 1):
    """The last of some steps, its latents put together again."""
    width = len(weights.b_enc) // parts

    def work(mesh: Mesh) -> StepResult:
        own = mesh.latents.part(len(weights.b_enc))
        some = Weights(
            weights.encoder[own], weights.b_enc[own], weights.decoder[own], weights.b_dec
        )
        backend = ParallelBackend(mesh)
        for _ in range(steps):
            result = backend.step(some, x, rule, VARIANCE, None if dead is None else dead[own])
        return result

    found = on_a_grid(rows, parts, work)
    first = found[0]
    for rank, other in enumerate(found):
        same = {**vars(first), **dict(found[rank % parts].gradients.items())}
        values = {**vars(other), **dict(other.gradients.items())}
        for name in ("loss", "unexplained", "aux", "l0", "smallest", "encoder", "decoder", "b_dec"):
            bits = {"rtol": 0, "atol": 0, "equal_nan": True}
            torch.testing.assert_close(values[name], same[name], **bits)
    column = found[:parts]
    assert all(len(each.fired) == width for each in column)
    gradients = Weights(
        torch.cat([each.gradients.encoder for each in column]),
        torch.cat([each.gradients.b_enc for each in column]),
        torch.cat([each.gradients.decoder for each in column]),
        first.gradients.b_dec,
    )
    return replace(first, gradients=gradients, fired=torch.cat([each.fired for each in column]))


def agree(found: StepResult, expected: StepResult) -> None:
    for name in ("loss", "unexplained", "aux", "l0", "smallest"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
    assert torch.equal(found.fired, expected.fired)
    for (name, mine), (_, truth) in zip(
        found.gradients.items(), expected.gradients.items(), strict=True
    ):
        torch.testing.assert_close(mine, truth, rtol=1e-9, atol=1e-12, msg=name)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    division=st.sampled_from(DIVISIONS),
    per=st.sampled_from(["row", "batch"]),
    k=st.integers(1, 5),
    aux_k=st.integers(0, 7),
    share=st.sampled_from([1, 2, 5]),
    help_=st.sampled_from(["none", "some", "all", "first part"]),
)
def test_a_divided_step_is_the_dense_step(seed, division, per, k, aux_k, share, help_) -> None:
    rows, parts = division
    weights, x, dead = problem(seed, rows * share * 2, 5, parts * 6)
    if help_ == "all":
        dead[:] = True
    elif help_ == "first part":
        dead[6:] = False
    dead = None if help_ == "none" else dead
    rule = Rule(k=k, per=per, aux_k=aux_k, aux_coefficient=0.3)
    expected = DenseBackend().step(weights, x, rule, VARIANCE, dead)
    agree(divided(weights, x, rule, dead, rows, parts, steps=2), expected)


@pytest.mark.parametrize("division", DIVISIONS)
@pytest.mark.parametrize("per", ["row", "batch"])
def test_with_nothing_active_nothing_is_learned_but_the_offset(division, per) -> None:
    weights, x, _ = problem(1, 12, 5, 12)
    weights.b_enc.fill_(-1e3)
    rule = Rule(k=2, per=per, aux_k=3, aux_coefficient=0.3)
    dead = torch.ones(12, dtype=torch.bool)
    expected = DenseBackend().step(weights, x, rule, VARIANCE, dead)
    found = divided(weights, x, rule, dead, *division)
    agree(found, expected)
    assert float(found.l0) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("division", [(2, 1), (1, 2)])
def test_numbers_that_are_none_end_as_a_loss_that_is_none(division, value) -> None:
    weights, x, _ = problem(1, 12, 5, 12)
    x[3, 2] = value
    for per in ("row", "batch"):
        rule = Rule(k=2, per=per, aux_k=0, aux_coefficient=0.0)
        assert not torch.isfinite(divided(weights, x, rule, None, *division, steps=3).loss)


@pytest.mark.parametrize("division", [(2, 1), (1, 2), (2, 2)])
def test_of_equal_values_no_more_are_kept_than_wanted(division) -> None:
    weights, x, _ = problem(1, 8, 5, 12)
    weights.encoder[:] = weights.encoder[0]
    weights.b_enc[:] = 50.0
    x[:] = x[0]
    for per in ("row", "batch"):
        rule = Rule(k=5, per=per, aux_k=0, aux_coefficient=0.0)
        assert float(divided(weights, x, rule, None, *division).l0) == 5


def mesh_of(rows: int, parts: int) -> Mesh:
    return Mesh(everyone=Team(0, rows * parts), rows=Team(0, rows), latents=Team(0, parts))


@pytest.mark.parametrize(
    ("architecture", "config", "division", "message"),
    [
        (Matryoshka(latents=32, k=2), {}, (2, 1), "of matryoshka, as with these settings its bat"),
        (MatchingPursuit(latents=32, k=2), {}, (2, 1), "batch cannot be divided; batchtopk and to"),
        (JumpReLU(latents=32, penalty="quadratic-l0", target_l0=3.0), {}, (2, 1), "of jumprelu"),
        (L1(latents=32, p_end=0.5), {}, (2, 1), "2 processes cannot train one dictionary of l1"),
        (L1(latents=32), {}, (1, 2), "its latents cannot be divided; batchtopk and topk can"),
        (TopK(latents=32, k=2), {"precision": "bf16"}, (2, 1), "in bf16; choose fp32"),
        (TopK(latents=32, k=2), {"batch": 63}, (2, 1), "batch of 63 cannot be divided evenly"),
        (TopK(latents=32, k=2), {"micro_batch": 8}, (2, 1), "leave micro_batch out"),
        (TopK(latents=32, k=2), {"resample": 999}, (1, 2), "resample needs all latents"),
        (TopK(latents=33, k=2), {}, (1, 2), "33 latents cannot be divided evenly into 2 parts"),
        (BatchTopK(latents=32, k=5), {}, (1, 2), "parts of at least 4 times k=5"),
    ],
)
def test_what_cannot_be_divided_is_refused(architecture, config, division, message) -> None:
    settings_ = TrainConfig(**{"batch": 64, **config})
    job = Job(architecture=architecture, config=settings_, origin=ORIGIN, d_in=16, folder=Path("d"))
    check(job, mesh_of(1, 1))
    with pytest.raises(ConfigError, match=message):
        check(job, mesh_of(*division))


def test_a_transcoder_is_refused() -> None:
    origin = replace(ORIGIN, target="mlp_post.0", target_width=8)
    job = Job(
        architecture=TopK(k=2), config=TrainConfig(), origin=origin, d_in=16, folder=Path("d")
    )
    with pytest.raises(ConfigError, match="cannot train one dictionary that is a transcoder"):
        check(job, mesh_of(2, 1))


ALONE_BY_ROW = [
    L1(latents=24),
    JumpReLU(latents=24, threshold=0.5),
    JumpReLU(latents=24, penalty="tanh", threshold=0.5),
    Gated(latents=24),
]


@pytest.mark.parametrize("rows", [2, 3])
@pytest.mark.parametrize("architecture", ALONE_BY_ROW, ids=lambda each: each.label(16))
def test_where_rows_stand_alone_the_parts_mean_is_the_batch(architecture, rows) -> None:
    config = TrainConfig(tokens=60 * 8, batch=60, lr=1e-2, dead_after=120)

    def trained(mesh: Mesh) -> tuple[list[StepResult], Weights]:
        job = Job(
            architecture=architecture, config=config, origin=ORIGIN, d_in=16, folder=Path("d")
        )
        check(job, mesh)
        source = Planted(d_in=16, features=32, batch=60)
        sample = torch.from_numpy(source.draw(60, 99)).float()
        learner = learner_of(job, mesh, CPU, torch.zeros(16), sample)
        learner.weights.b_enc[:6] = -9.0  # dead, so that they are helped
        trainer = trainer_of(job, mesh)(learner, source, config, scale=3.0, variance=9.0)
        results = [trainer.step() for _ in range(8)]
        return [replace(r, gradients=learner.weights) for r in results], learner.weights

    (expected, weights), found = trained(ALONE), on_a_grid(rows, 1, trained)
    for results, own in found:
        for (name, mine), (_, truth) in zip(own.items(), weights.items(), strict=True):
            torch.testing.assert_close(mine, truth, rtol=1e-3, atol=1e-4, msg=name)
            assert torch.equal(mine, dict(found[0][1].items())[name]), name
        for mine, truth in zip(results, expected, strict=True):
            for name in ("loss", "unexplained", "aux", "l0", "smallest", "fired"):
                torch.testing.assert_close(
                    getattr(mine, name), getattr(truth, name), rtol=1e-3, atol=1e-4, msg=name
                )
    assert any(float(result.aux) > 0 for result in expected)


def test_who_has_what() -> None:
    team = Team(1, 3)
    assert [Team(rank, 3).part(7) for rank in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 7)]
    assert team.part(3) == slice(1, 2)


@pytest.mark.parametrize("division", [(1, 2), (2, 2), (1, 3)])
def test_divided_latents_are_clipped_by_the_norm_of_all_gradients(division) -> None:
    config = TrainConfig(tokens=60 * 4, batch=60, clip=1e-3)

    def trained(mesh: Mesh) -> tuple[Tensor, Tensor]:
        job = Job(
            architecture=TopK(latents=24, k=2), config=config, origin=ORIGIN, d_in=16,
            folder=Path("d"),
        )  # fmt: skip
        source = Planted(d_in=16, features=32, batch=60)
        learner = learner_of(job, mesh, CPU, torch.zeros(16), torch.from_numpy(source.draw(60, 99)))
        trainer = trainer_of(job, mesh)(learner, source, config, scale=3.0, variance=9.0)
        norm = trainer.norm(trainer.step().gradients)
        moments = trainer.optimizer.state[learner.weights.b_dec]["exp_avg"]
        return norm, moments

    norm, moments = trained(ALONE)
    assert float(norm) > 2 * 1e-3 / 9.0  # else nothing is clipped
    for found in on_a_grid(*division, trained):
        torch.testing.assert_close(found, (norm, moments))
