"""Whole steps by the GPU's kernels, run on a CPU by Triton's interpreter."""

import dataclasses
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.sae.kernels import (
    Rule,
    Weights,
    backends,
    tritonencode,
)
from tests.sae import test_kernels as proofs
from tests.sae.interpreted import quick  # noqa: F401 - a fixture; skips where there is no Triton

Per = Literal["row", "batch"]


@pytest.mark.parametrize(("per", "aux_k"), [("row", 2), ("batch", 50)])
def test_losses_equal_an_independent_formula(per: Per, aux_k: int) -> None:
    proofs.test_losses_equal_an_independent_formula("triton", per, aux_k)


@pytest.mark.parametrize("per", ["row", "batch"])
def test_gradients_equal_finite_differences(per: Per) -> None:
    proofs.test_gradients_equal_finite_differences("triton", per)


@pytest.mark.slow
def test_which_parameters_each_loss_term_reaches() -> None:
    proofs.test_which_parameters_each_loss_term_reaches("triton")


@settings(deadline=None, max_examples=8)
@given(
    seed=st.integers(0, 2**16),
    n=st.sampled_from([1, 2, 5]),
    d_in=st.integers(1, 9),
    latents=st.integers(2, 24),
    k=st.integers(1, 24),
    per=st.sampled_from(["row", "batch"]),
    aux_k=st.sampled_from([0, 1, 100]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    dead=st.sampled_from(["none", "some", "all", "empty"]),
    bias=st.sampled_from([0.0, -30.0, 30.0]),
)
def test_it_agrees_on_any_shape(seed, n, d_in, latents, k, per, aux_k, scale, dead, bias):
    weights, x, some = proofs.problem(seed, n, d_in, latents)
    weights.b_enc.add_(bias)
    masks = {"none": None, "some": some, "all": some | True, "empty": some & False}
    rule = Rule(k=min(k, latents), per=per, aux_k=aux_k, aux_coefficient=1 / 32)
    scaled = dataclasses.replace(weights, b_enc=weights.b_enc * scale, b_dec=weights.b_dec * scale)
    proofs.assert_agree(scaled, x * scale, rule, masks[dead], 3.0 * scale**2, ("triton",))


@pytest.mark.parametrize(
    ("n", "d_in", "latents", "k"),
    [(3, 2304, 40, 5), (3, 576, 37, 7), (2, 11, 300, 256)],
)
@pytest.mark.parametrize("per", ["row", pytest.param("batch", marks=pytest.mark.slow)])
def test_it_agrees_at_real_widths(per: Per, n: int, d_in: int, latents: int, k: int) -> None:
    weights, x, dead = proofs.problem(4, n, d_in, latents)
    rule = Rule(k=k, per=per, aux_k=3, aux_coefficient=1 / 32)
    proofs.assert_agree(weights, x, rule, dead, names=("triton",))


@pytest.mark.slow
@pytest.mark.parametrize("per", ["row", "batch"])
def test_it_agrees_on_a_larger_batch(per: Per) -> None:
    weights, x, dead = proofs.problem(5, n=40, d_in=576, latents=300)
    rule = Rule(k=32, per=per, aux_k=16, aux_coefficient=1 / 32)
    proofs.assert_agree(weights, x, rule, dead, names=("triton",))


@pytest.mark.parametrize("per", ["row", "batch"])
def test_it_agrees_across_chunks_and_on_constant_input(per: Per, monkeypatch) -> None:
    monkeypatch.setattr(tritonencode, "CHUNK", 3 * 20 * 8)  # three rows of float64
    weights, x, dead = proofs.problem(5, n=7, d_in=6, latents=20)
    rule = Rule(k=3, per=per, aux_k=4, aux_coefficient=1 / 32)
    proofs.assert_agree(weights, x, rule, dead, names=("triton",))
    proofs.assert_agree(weights, x[:1].repeat(4, 1), rule, None, names=("triton",))


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # in numpy, where infinite
def test_batch_selection_does_not_depend_on_the_guess() -> None:
    weights, x, _ = proofs.problem(6, n=7, d_in=6, latents=20)
    rule = Rule(k=2, per="batch", aux_k=0, aux_coefficient=0.0)
    fresh = backends()["triton"]().step(weights, x, rule, 3.0)
    for factor in (1e-6, 3.0, torch.nan):
        backend = backends()["triton"]()
        backend.step(weights, x * factor, rule, 3.0)
        again = backend.step(weights, x, rule, 3.0)
        assert torch.equal(again.loss, fresh.loss)
        for (_, a), (_, b) in zip(again.gradients.items(), fresh.gradients.items(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("latents", [10, 30])  # 30: more tied candidates than there is room for
def test_batch_selection_takes_exactly_n_k_of_tied_values(latents: int) -> None:
    weights, x, _ = proofs.problem(7, n=8, d_in=4, latents=latents)
    weights.encoder.zero_()
    weights.b_enc.fill_(1.0)
    rule = Rule(k=3, per="batch", aux_k=0, aux_coefficient=0.0)
    found = backends()["triton"]().step(weights, x, rule, 3.0)
    expected = backends()["sparse"]().step(weights, x, rule, 3.0)
    assert float(found.l0) == 3.0
    for (_, a), (_, b) in zip(found.gradients.items(), expected.gradients.items(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("per", ["row", "batch"])
def test_steps_repeat_to_the_bit_in_buffers_of_any_size(per: Per) -> None:
    weights, x, dead = proofs.problem(12, n=4, d_in=9, latents=12, dtype=torch.float32)
    dead = dead if per == "row" else None
    rule = Rule(k=3, per=per, aux_k=2, aux_coefficient=0.5)
    used = backends()["triton"]()
    for rows in (4, 2, 4):
        fresh = backends()["triton"]().step(weights, x[:rows], rule, 9.0, dead)
        found = used.step(weights, x[:rows], rule, 9.0, dead)
        assert torch.equal(found.loss, fresh.loss)
        pairs = zip(found.gradients.items(), fresh.gradients.items(), strict=True)
        assert all(torch.equal(a, b) for (_, a), (_, b) in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("per", ["row", "batch"])
def test_loss_curves_of_trainings_agree(per: Per) -> None:
    curves = [proofs.trajectory(backends()[name](), per, 50, 16) for name in ("dense", "triton")]
    assert curves[0][-1] < curves[0][0]
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)


def test_bfloat16_rounds_the_factors_and_nothing_else() -> None:
    """Float64 formulas on rounded factors: losses to single precision, gradients to the error's."""
    weights, x, _ = proofs.problem(13, n=12, d_in=70, latents=30, dtype=torch.float32)
    rule = Rule(k=4, per="row", aux_k=0, aux_coefficient=0.0)
    found = backends()["triton-bfloat16"]().step(weights, x, rule, 70.0)

    def rounded(table: torch.Tensor) -> torch.Tensor:
        return table.bfloat16().double()

    centred = x - weights.b_dec
    pre = rounded(centred) @ rounded(weights.encoder).T + weights.b_enc.double()
    top = pre.topk(4)
    z = torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())
    error = centred.double() - z @ rounded(weights.decoder)
    scale = -2 / (12 * 70.0)
    pushed = scale * (z > 0) * (rounded(error) @ rounded(weights.decoder).T)
    expected = Weights(
        encoder=pushed.T @ rounded(centred),
        b_enc=pushed.sum(dim=0),
        decoder=scale * z.T @ rounded(error),
        b_dec=scale * rounded(error).sum(dim=0) - pushed.sum(dim=0) @ weights.encoder.double(),
    )
    loss = error.square().sum() / (12 * 70.0)
    torch.testing.assert_close(found.loss.double(), loss, rtol=1e-5, atol=0)
    assert torch.equal(found.fired, (z > 0).any(dim=0))
    for (name, a), (_, b) in zip(found.gradients.items(), expected.items(), strict=True):
        # the interpreter cuts an error's last bits off where a GPU rounds: 2⁻⁸ of it
        torch.testing.assert_close(
            a.double(), b, rtol=0, atol=8e-3 * float(b.abs().max()), msg=name
        )
    full = backends()["triton"]().step(weights, x, rule, 70.0)
    assert not torch.equal(found.loss, full.loss)
    torch.testing.assert_close(found.loss, full.loss, rtol=0.01, atol=0)
