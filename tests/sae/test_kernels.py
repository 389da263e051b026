"""Every backend computes the documented formulas, and the gradients of what it computes."""

import dataclasses
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.sae.kernels import Backend, Rule, Weights, backends
from interp.sae.kernels import compiledencode as compiled_module
from interp.sae.kernels import sparse as sparse_module

# Triton's take these proofs in `test_triton.py`, at sizes fit for its interpreter.
NAMES = sorted(name for name in backends() if not name.startswith("triton"))
Per = Literal["row", "batch"]


def problem(seed: int, n: int, d_in: int, latents: int, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=g, dtype=dtype)

    decoder = normal(latents, d_in)
    decoder /= decoder.norm(dim=1, keepdim=True)
    weights = Weights(
        encoder=decoder + 0.1 * normal(latents, d_in),
        b_enc=0.1 * normal(latents),
        decoder=decoder,
        b_dec=normal(d_in),
    )
    dead = torch.rand(latents, generator=g) < 0.4
    return weights, 2 * normal(n, d_in), dead


def reference_loss(
    weights: Weights, x, rule: Rule, variance: float, dead, held: dict | None = None
):
    """The loss in numpy, row by row and latent by latent, sharing nothing with the package.

    ``held`` fixes what the definition holds constant (the residual that AuxK explains).
    """
    encoder, b_enc, decoder, b_dec = (t.numpy() for _, t in weights.items())
    x = x.numpy()
    pre = np.array(
        [
            [float(np.dot(row - b_dec, e)) + b for e, b in zip(encoder, b_enc, strict=True)]
            for row in x
        ]
    )
    ranked = sorted((-pre[i, j], i, j) for i in range(len(x)) for j in range(len(b_enc)))
    chosen: set[tuple[int, int]] = set()
    if rule.per == "batch":
        chosen = {(i, j) for _, i, j in ranked[: rule.k * len(x)]}
    else:
        for row in range(len(x)):
            chosen |= {(i, j) for _, i, j in [r for r in ranked if r[1] == row][: rule.k]}
    errors, codes = [], np.zeros_like(pre)
    for i, row in enumerate(x):
        estimate = b_dec.copy()
        for j in range(len(b_enc)):
            if (i, j) in chosen and pre[i, j] > 0:
                codes[i, j] = pre[i, j]
                estimate = estimate + pre[i, j] * decoder[j]
        errors.append(row - estimate)
    unexplained = sum(float(e @ e) for e in errors) / (len(x) * variance)
    target = held["residual"] if held else np.array(errors)
    aux = 0.0
    if dead is not None and dead.any() and rule.aux_k:
        spread = float(((target - target.mean(0)) ** 2).sum())
        for i in range(len(x)):
            order = sorted((j for j in range(len(b_enc)) if dead[j]), key=lambda j: -pre[i, j])
            estimate = np.zeros(x.shape[1])
            for j in order[: rule.aux_k]:
                estimate += max(pre[i, j], 0.0) * decoder[j]
            aux += float(((target[i] - estimate) ** 2).sum()) / spread
    return {
        "loss": unexplained + rule.aux_coefficient * aux,
        "unexplained": unexplained,
        "aux": aux,
        "codes": codes,
        "residual": np.array(errors),
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per", ["row", "batch"])
@pytest.mark.parametrize("aux_k", [0, 2, 50])
def test_losses_equal_an_independent_formula(name: str, per: Per, aux_k: int) -> None:
    weights, x, dead = problem(1, n=9, d_in=7, latents=13)
    rule = Rule(k=3, per=per, aux_k=aux_k, aux_coefficient=1 / 32)
    result = backends()[name]().step(weights, x, rule, 5.0, dead)
    expected = reference_loss(weights, x, rule, 5.0, dead)
    assert float(result.loss) == pytest.approx(expected["loss"], rel=1e-12)
    assert float(result.unexplained) == pytest.approx(expected["unexplained"], rel=1e-12)
    assert float(result.aux) == pytest.approx(expected["aux"], rel=1e-12)
    assert float(result.l0) == (expected["codes"] > 0).sum() / 9
    assert float(result.smallest) == pytest.approx(expected["codes"][expected["codes"] > 0].min())
    assert result.fired.tolist() == (expected["codes"] > 0).any(axis=0).tolist()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per", ["row", "batch"])
def test_gradients_equal_finite_differences(name: str, per: Per) -> None:
    """Central differences of the numpy formula, with AuxK's residual held constant as defined."""
    weights, x, dead = problem(2, n=6, d_in=5, latents=9)
    rule = Rule(k=2, per=per, aux_k=2, aux_coefficient=0.5)
    gradients = dict(backends()[name]().step(weights, x, rule, 5.0, dead).gradients.items())
    held = reference_loss(weights, x, rule, 5.0, dead)
    for key, tensor in weights.items():
        numeric = np.zeros(tensor.numel())
        for entry in range(tensor.numel()):
            losses = []
            for sign in (1, -1):
                moved = tensor.clone()
                moved.view(-1)[entry] += sign * 1e-6
                there = dataclasses.replace(weights, **{key: moved})
                losses.append(reference_loss(there, x, rule, 5.0, dead, held)["loss"])
            numeric[entry] = (losses[0] - losses[1]) / 2e-6
        np.testing.assert_allclose(gradients[key].reshape(-1).numpy(), numeric, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_which_parameters_each_loss_term_reaches(name: str) -> None:
    """Peers' AuxK gives the encoder exactly zero gradient; here it must reach dead latents only."""
    weights, x, dead = problem(3, n=40, d_in=8, latents=24)
    weights.b_enc[dead] -= 1.5  # dead latents never win the main selection ...
    rule = Rule(k=2, per="row", aux_k=4, aux_coefficient=1 / 32)
    off = dataclasses.replace(rule, aux_coefficient=0.0)
    main = backends()[name]().step(weights, x, off, 5.0, dead)
    both = backends()[name]().step(weights, x, rule, 5.0, dead)
    helped = dead & ~main.fired
    assert helped.any()
    for key, main_gradient in main.gradients.items():
        aux_gradient = dict(both.gradients.items())[key] - main_gradient
        assert main_gradient.abs().sum() > 0, f"the main term must reach {key}"
        assert aux_gradient.abs().sum() > 0, f"AuxK must reach {key}"
        if key != "b_dec":
            assert not main_gradient[~main.fired].any(), f"silent latents' {key} from main"
            assert aux_gradient[~dead].abs().max() < 1e-15, f"live latents' {key} from AuxK"
            assert aux_gradient[helped].abs().sum() > 0  # ... but AuxK reaches them


def assert_agree(
    weights: Weights, x, rule: Rule, dead, variance: float = 3.0, names=("sparse", "compiled")
) -> None:
    dense = backends()["dense"]().step(weights, x, rule, variance, dead)
    for name in names:
        found = backends()[name]().step(weights, x, rule, variance, dead)
        for field in ("loss", "unexplained", "aux", "l0", "smallest"):
            torch.testing.assert_close(getattr(found, field), getattr(dense, field))
        assert torch.equal(found.fired, dense.fired)
        pairs = zip(found.gradients.items(), dense.gradients.items(), strict=True)
        for (key, ours), (_, theirs) in pairs:
            scale = float(theirs.abs().max()) + 1e-300
            torch.testing.assert_close(ours / scale, theirs / scale, msg=key, rtol=1e-7, atol=1e-7)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**16),
    n=st.sampled_from([1, 2, 5, 17]),
    d_in=st.integers(1, 9),
    latents=st.integers(2, 24),
    k=st.integers(1, 24),
    per=st.sampled_from(["row", "batch"]),
    aux_k=st.sampled_from([0, 1, 5, 100]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    dead=st.sampled_from(["none", "some", "all"]),
    bias=st.sampled_from([0.0, -30.0, 30.0]),
)
def test_backends_agree_on_any_shape(seed, n, d_in, latents, k, per, aux_k, scale, dead, bias):
    """One row, width below k's usual, all dead, nothing active, everything active, huge norms."""
    weights, x, some = problem(seed, n, d_in, latents)
    weights.b_enc.add_(bias)
    mask = {"none": None, "some": some, "all": torch.ones_like(some)}[dead]
    rule = Rule(k=min(k, latents), per=per, aux_k=aux_k, aux_coefficient=1 / 32)
    scaled = dataclasses.replace(weights, b_enc=weights.b_enc * scale, b_dec=weights.b_dec * scale)
    assert_agree(scaled, x * scale, rule, mask, variance=3.0 * scale**2)


@pytest.mark.parametrize("per", ["row", "batch"])
def test_backends_agree_across_chunks_and_on_constant_input(per: Per, monkeypatch) -> None:
    monkeypatch.setattr(sparse_module, "CHUNK", 7)
    monkeypatch.setattr(compiled_module, "CHUNK", 7 * 8)  # bytes of float64
    weights, x, dead = problem(5, n=31, d_in=6, latents=20)
    rule = Rule(k=3, per=per, aux_k=4, aux_coefficient=1 / 32)
    assert_agree(weights, x, rule, dead)
    constant = x[:1].repeat(31, 1)
    dense = backends()["dense"]().step(weights, constant, rule, 3.0, None)
    for name in ("sparse", "compiled"):
        ours = backends()[name]().step(weights, constant, rule, 3.0, None)
        torch.testing.assert_close(ours.loss, dense.loss)


@pytest.mark.parametrize("name", ["sparse", "compiled"])
def test_batch_selection_does_not_depend_on_the_guess(name: str) -> None:
    """The threshold of the last batch is a hint: wrong by any factor, the result is bit-equal."""
    weights, x, dead = problem(6, n=50, d_in=6, latents=30)
    rule = Rule(k=3, per="batch", aux_k=4, aux_coefficient=1 / 32)
    fresh = backends()[name]().step(weights, x, rule, 3.0, dead)
    for factor in (1e-6, 0.3, 3.0, 1e3):
        backend = backends()[name]()
        backend.step(weights, x * factor, rule, 3.0, dead)
        again = backend.step(weights, x, rule, 3.0, dead)
        assert torch.equal(again.loss, fresh.loss)
        for (_, a), (_, b) in zip(again.gradients.items(), fresh.gradients.items(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_batch_selection_takes_exactly_n_k_of_tied_values(name: str) -> None:
    weights, x, _ = problem(7, n=8, d_in=4, latents=10)
    weights.encoder.zero_()
    weights.b_enc.fill_(1.0)  # every pre-activation is 1
    rule = Rule(k=3, per="batch", aux_k=0, aux_coefficient=0.0)
    assert float(backends()[name]().step(weights, x, rule, 3.0).l0) == 3.0


def trajectory(
    backend: Backend, per: Per, steps: int, rows: int = 128, device: str = "cpu"
) -> list[float]:
    weights, _, _ = problem(8, n=1, d_in=16, latents=64, dtype=torch.float32)
    weights = Weights(*(tensor.to(device) for _, tensor in weights.items()))
    tensors = [tensor for _, tensor in weights.items()]
    adam = torch.optim.Adam(tensors, lr=3e-3, fused=True)
    features = torch.nn.functional.normalize(
        torch.randn(48, 16, generator=torch.Generator().manual_seed(9)), dim=1
    )
    g = torch.Generator().manual_seed(10)
    losses, silent = [], torch.zeros(64, device=device)
    rule = Rule(k=3, per=per, aux_k=8, aux_coefficient=1 / 32)
    for _ in range(steps):
        z = torch.rand(rows, 48, generator=g) * (torch.rand(rows, 48, generator=g) < 0.06)
        result = backend.step(weights, (z @ features).to(device), rule, 1.0, silent > 3)
        silent = (silent + 1) * ~result.fired
        for tensor, (_, gradient) in zip(tensors, result.gradients.items(), strict=True):
            tensor.grad = gradient
        adam.step()
        weights.decoder.div_(weights.decoder.norm(dim=1, keepdim=True))
        losses.append(float(result.loss))
    return losses


@pytest.mark.parametrize("per", ["row", "batch"])
def test_loss_curves_of_whole_trainings_agree(per: Per) -> None:
    """500 float32 Adam steps with dead latents helped along the way stay within 1e-4."""
    curves = [trajectory(backends()[name](), per, 500) for name in NAMES]
    assert curves[0][-1] < 0.5 * curves[0][0]
    for curve in curves[1:]:
        np.testing.assert_allclose(curve, curves[0], rtol=1e-4)


@pytest.mark.parametrize("name", ["sparse", "compiled", "compiled-bfloat16"])
def test_steps_repeat_to_the_bit(name: str) -> None:
    for per in ("row", "batch"):
        again = [trajectory(backends()[name](), per, 20) for _ in range(2)]
        assert again[0] == again[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("per", ["row", "batch"])
def test_the_same_code_on_a_gpu_gives_the_same_numbers(per: Per) -> None:
    weights, x, dead = problem(11, n=700, d_in=72, latents=300)
    rule = Rule(k=5, per=per, aux_k=16, aux_coefficient=1 / 32)
    expected = backends()["dense"]().step(weights, x, rule, 3.0, dead)
    there = Weights(*(tensor.cuda() for _, tensor in weights.items()))
    for name in ("dense", "sparse"):
        found = backends()[name]().step(there, x.cuda(), rule, 3.0, dead.cuda())
        torch.testing.assert_close(found.loss.cpu(), expected.loss)
        pairs = zip(found.gradients.items(), expected.gradients.items(), strict=True)
        for (_, ours), (_, theirs) in pairs:
            torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-9, atol=1e-12)
