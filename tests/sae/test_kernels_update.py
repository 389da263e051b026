"""The one-pass optimiser step against projection, torch's Adam and renormalisation in turn."""

import pytest
import torch
from torch.nn.functional import normalize

from interp.sae.kernels.update import Adam, update


@pytest.mark.parametrize("factor", [None, 0.25])
@pytest.mark.parametrize("unit_rows", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(37, 19), (1, 50)])
def test_twenty_steps_equal_torchs_adam(shape, dtype, unit_rows: bool, factor) -> None:
    draw = torch.Generator().manual_seed(0)
    ours = normalize(torch.randn(shape, generator=draw, dtype=dtype), dim=1)
    theirs = ours.clone()
    mean, square = torch.zeros_like(ours), torch.zeros_like(ours)
    reference = torch.optim.Adam([theirs], lr=1.0, betas=(0.8, 0.99), eps=6.25e-10, fused=True)
    for step in range(1, 21):
        gradient = torch.randn(shape, generator=draw, dtype=dtype) * 1e-4
        lr = 0.01 / step
        theirs.grad = gradient * (factor or 1)
        if unit_rows:
            theirs.grad -= (theirs.grad * theirs).sum(dim=1, keepdim=True) * theirs
        reference.param_groups[0]["lr"] = lr
        reference.step()
        if unit_rows:
            theirs.div_(theirs.norm(dim=1, keepdim=True))
        before = gradient.clone()
        adam = Adam(lr=lr, step=step, beta1=0.8, beta2=0.99, eps=6.25e-10)
        shorten = None if factor is None else torch.tensor(factor)
        update(ours, gradient, mean, square, adam, unit_rows=unit_rows, factor=shorten)
        assert torch.equal(gradient, before)
    tolerance = 3e-6 if dtype == torch.float32 else 1e-12
    state = reference.state[theirs]
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(mean, state["exp_avg"], rtol=1e-4, atol=tolerance * 1e-4)
    torch.testing.assert_close(square, state["exp_avg_sq"], rtol=1e-4, atol=tolerance * 1e-8)
    if unit_rows:
        torch.testing.assert_close(ours.norm(dim=1), torch.ones(shape[0], dtype=dtype))


def test_a_row_of_zeros_stays_finite() -> None:
    weight = torch.zeros(2, 3)
    update(
        weight, weight.clone(), weight.clone(), weight.clone(), Adam(lr=0.1, step=1), unit_rows=True
    )
    assert torch.equal(weight, torch.zeros(2, 3))
