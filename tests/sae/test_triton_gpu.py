"""The same kernels on a real GPU, at the sizes that the interpreter cannot reach.

TRITON_INTERPRET=0 python -m pytest -m gpu tests/sae/test_triton_gpu.py
"""

from typing import Literal

import pytest
import torch

from interp.sae.kernels import Rule, Weights, backends
from interp.sae.kernels.update import Adam
from tests.sae import test_kernels as proofs

triton = pytest.importorskip("triton")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or triton.knobs.runtime.interpret,
        reason="needs a CUDA device, and TRITON_INTERPRET=0",
    ),
]

Per = Literal["row", "batch"]


def on_gpu(weights: Weights) -> Weights:
    return Weights(*(tensor.cuda() for _, tensor in weights.items()))


def planted(n: int, d_in: int, latents: int) -> tuple[Weights, torch.Tensor, torch.Tensor]:
    """Single precision, made where it is used."""
    g = torch.Generator("cuda").manual_seed(0)
    decoder = torch.randn(latents, d_in, generator=g, device="cuda")
    decoder /= decoder.norm(dim=1, keepdim=True)
    b_enc = 0.1 * torch.randn(latents, generator=g, device="cuda")
    weights = Weights(decoder.clone(), b_enc, decoder, torch.zeros(d_in, device="cuda"))
    x = torch.randn(n, d_in, generator=g, device="cuda")
    return weights, x, torch.rand(latents, generator=g, device="cuda") < 0.3


@pytest.mark.parametrize("per", ["row", "batch"])
@pytest.mark.parametrize(
    ("n", "d_in", "latents", "k"),
    [(700, 72, 300, 5), (1, 3, 7, 7), (33, 576, 1100, 256), (130, 2304, 4999, 64)],
)
def test_it_agrees_with_the_dense_reference_in_float64(per: Per, n, d_in, latents, k) -> None:
    weights, x, dead = proofs.problem(11, n, d_in, latents)
    rule = Rule(k=k, per=per, aux_k=16, aux_coefficient=1 / 32)
    proofs.assert_agree(on_gpu(weights), x.cuda(), rule, dead.cuda(), names=("triton",))


@pytest.mark.parametrize("per", ["row", "batch"])
@pytest.mark.parametrize(
    ("d_in", "latents", "k"), [(2304, 65536, 64), (576, 131072, 256), (2304, 131071, 33)]
)
def test_it_agrees_with_plain_torch_at_full_width(per: Per, d_in, latents, k) -> None:
    weights, x, dead = planted(1030, d_in, latents)
    rule = Rule(k=k, per=per, aux_k=128, aux_coefficient=1 / 32)
    expected = backends()["sparse"]().step(weights, x, rule, float(d_in), dead)
    backend = backends()["triton"]()
    found = backend.step(weights, x, rule, float(d_in), dead)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-4, atol=0)
    for (name, a), (_, b) in zip(found.gradients.items(), expected.gradients.items(), strict=True):
        close = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
        assert close > 0.9999, name  # an entry at the threshold may go to either
    first = [gradient.clone() for _, gradient in found.gradients.items()]
    again = backend.step(weights, x, rule, float(d_in), dead)
    assert torch.equal(found.loss, again.loss)
    assert all(torch.equal(a, b) for a, (_, b) in zip(first, again.gradients.items(), strict=True))


def test_bfloat16_stays_near_full_precision() -> None:
    weights, x, dead = planted(1030, 2304, 65536)
    rule = Rule(k=64, per="row", aux_k=128, aux_coefficient=1 / 32)
    full = backends()["triton"]().step(weights, x, rule, 2304.0, dead)
    short = backends()["triton-bfloat16"]().step(weights, x, rule, 2304.0, dead)
    torch.testing.assert_close(short.loss, full.loss, rtol=0.01, atol=0)
    for (name, a), (_, b) in zip(short.gradients.items(), full.gradients.items(), strict=True):
        close = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)
        assert close > 0.95, name  # near the threshold others are chosen


@pytest.mark.parametrize("name", ["triton", "triton-bfloat16"])
def test_a_step_with_k_per_row_never_waits_for_the_device(name: str) -> None:
    weights, x, dead = planted(256, 576, 4608)
    rule = Rule(k=32, per="row", aux_k=64, aux_coefficient=1 / 32)
    backend = backends()[name]()
    backend.step(weights, x, rule, 576.0, dead)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        backend.step(weights, x, rule, 576.0, dead)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("per", ["row", "batch"])
def test_loss_curves_of_whole_trainings_agree(per: Per) -> None:
    """500 float32 Adam steps with dead latents helped along the way stay within 1e-4."""
    dense, ours = (
        proofs.trajectory(backends()[name](), per, 500, device="cuda")
        for name in ("dense", "triton")
    )
    assert dense[-1] < 0.5 * dense[0]
    assert ours == pytest.approx(dense, rel=1e-4)


@pytest.mark.parametrize("factor", [None, 0.25])
@pytest.mark.parametrize("shape", [(65537, 2304), (1, 131071), (300, 6912)])
def test_the_one_pass_update_equals_torchs_adam(shape: tuple[int, int], factor) -> None:
    from interp.sae.kernels.tritonupdate import update

    g = torch.Generator("cuda").manual_seed(0)
    ours = torch.randn(shape, generator=g, device="cuda")
    ours /= ours.norm(dim=1, keepdim=True)
    theirs = ours.clone()
    mean, square = torch.zeros_like(ours), torch.zeros_like(ours)
    reference = torch.optim.Adam([theirs], lr=1e-3, fused=True)
    unit_rows = shape[0] > 1
    for step in range(1, 6):
        gradient = torch.randn(shape, generator=g, device="cuda") * 1e-3
        theirs.grad = gradient * (factor or 1)
        if unit_rows:
            theirs.grad -= (theirs.grad * theirs).sum(dim=1, keepdim=True) * theirs
        reference.step()
        if unit_rows:
            theirs.div_(theirs.norm(dim=1, keepdim=True))
        shorten = None if factor is None else torch.tensor(factor, device="cuda")
        given = (ours, gradient, mean, square, Adam(lr=1e-3, step=step))
        update(*given, unit_rows=unit_rows, factor=shorten)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
