"""The GPU's kernels one by one, run on a CPU by Triton's interpreter."""

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from interp.sae.kernels import (
    Rule,
    backends,
    tritonupdate,
)
from interp.sae.kernels import tritonlists as lists
from interp.sae.kernels import tritonselect as selection
from interp.sae.kernels.update import Adam
from tests.sae import test_kernels as proofs
from tests.sae.interpreted import quick  # noqa: F401 - a fixture; skips where there is no Triton

Per = Literal["row", "batch"]


def rows_of(kind: str, n: int, width: int, seed: int) -> torch.Tensor:
    """Rows that are hard to select from."""
    pre = torch.randn(n, width, generator=torch.Generator().manual_seed(seed))
    if kind == "tied":
        return (2 * pre).round()
    if kind == "one residue":  # all that is large folds into one maximum
        pre = pre.abs() / 10
        pre[:, :: selection.SMALLEST] += 5
    return pre - 2 if kind == "few positive" else pre


@pytest.mark.parametrize("kind", ["plain", "tied", "one residue", "few positive"])
@pytest.mark.parametrize(("width", "k"), [(7, 3), (33, 33), (300, 32), (9000, 2), (5000, 256)])
@pytest.mark.parametrize("masked", [False, True])
def test_a_rows_largest_are_those_of_a_stable_sort(kind: str, width: int, k: int, masked) -> None:
    pre = rows_of(kind, 2, width, 5)
    bias = torch.linspace(0, 0.5, width) if kind == "plain" else torch.zeros(width)
    allowed = (torch.arange(width) % 3 > 0).to(torch.uint8) if masked else None
    values, latents = torch.full((2, k), -7.0), torch.full((2, k), -7, dtype=torch.int32)
    selection.select(pre, bias, values, latents, allowed)
    expected = (pre + bias).relu()
    if allowed is not None:
        expected = expected * allowed
    order = expected.sort(dim=1, descending=True, stable=True).indices[:, :k].sort(dim=1).values
    for row in range(2):
        chosen = order[row][expected[row, order[row]] > 0]
        active = values[row] != 0
        assert latents[row][active].tolist() == chosen.tolist()
        assert torch.equal(values[row][active], expected[row, chosen])


def test_no_number_is_chosen_first_and_shows() -> None:
    pre = torch.tensor([[1.0, -torch.nan, 3.0, torch.inf]])
    values, latents = torch.empty(1, 2), torch.empty(1, 2, dtype=torch.int32)
    selection.select(pre, torch.zeros(4), values, latents)
    assert latents.tolist() == [[1, 3]]
    assert values[0, 0].isnan()
    weights, x, _ = proofs.problem(3, n=4, d_in=5, latents=6)
    weights.encoder[3, 2] = torch.nan
    rule = Rule(k=2, per="row", aux_k=0, aux_coefficient=0.0)
    assert backends()["triton"]().step(weights, x, rule, 3.0).gradients.b_dec.isnan().all()


@settings(deadline=None, max_examples=6)
@given(seed=st.integers(0, 2**16), width=st.sampled_from([1, 70, 600]), room=st.integers(1, 40))
def test_sums_over_lists_with_empty_rows_and_repeated_latents(seed, width, room) -> None:
    g = torch.Generator().manual_seed(seed)
    n, latents = 5, 6
    lengths = torch.randint(0, room, (n,), generator=g) * (torch.rand(n, generator=g) < 0.6)
    ends = lengths.cumsum(0)
    rows = torch.arange(n).repeat_interleave(lengths)
    entries = int(ends[-1])
    values = torch.rand(entries, generator=g, dtype=torch.float64)
    values *= torch.rand(entries, generator=g) < 0.8  # inactive slots
    whose = torch.randint(0, latents, (entries,), generator=g, dtype=torch.int32)
    target = torch.randn(n, width, generator=g, dtype=torch.float64)
    decoder = torch.randn(latents, width, generator=g, dtype=torch.float64)
    error, squares = torch.empty_like(target), torch.empty(n, dtype=torch.float64)
    inner = torch.empty(entries, dtype=torch.float64)
    lists.reconstruct(
        target, decoder, ends - lengths, ends, values, whose, error, inner, squares, k=room
    )
    plain = target.clone()
    plain.index_add_(0, rows, -values[:, None] * decoder[whose.long()])
    torch.testing.assert_close(error, plain)
    torch.testing.assert_close(squares, plain.square().sum(dim=1))
    product = (plain[rows] * decoder[whose.long()]).sum(dim=1) * (values != 0)
    torch.testing.assert_close(inner, product)

    order = whose.sort(stable=True).indices
    offsets = torch.searchsorted(whose[order], torch.arange(latents + 1, dtype=torch.int32))
    made = [torch.full_like(decoder, 7), torch.full((latents,), 7.0).double(), decoder + 7]
    sorted_ = (rows[order], values[order], inner[order])
    for fresh, times in ((True, 1), (False, 2)):
        scale = torch.tensor(-0.5, dtype=torch.float64)
        lists.gather(offsets, *sorted_, scale, error, target, *made, fresh=fresh)
        wanted = [torch.zeros_like(decoder), torch.zeros(latents).double(), decoder * 0]
        wanted[0].index_add_(0, whose, inner[:, None] * target[rows])
        wanted[1].index_add_(0, whose, inner)
        wanted[2].index_add_(0, whose, values[:, None] * error[rows])
        for ours, theirs in zip(made, wanted, strict=True):
            torch.testing.assert_close(ours, -0.5 * times * theirs)


@pytest.mark.parametrize("factor", [None, 0.25])
@pytest.mark.parametrize("unit_rows", [True, False])
@pytest.mark.parametrize("shape", [(9, 19), (2, 2304), (1, 5000)])
def test_the_one_pass_update_equals_torchs_adam(shape, unit_rows: bool, factor) -> None:
    draw = torch.Generator().manual_seed(0)
    ours = normalize(torch.randn(shape, generator=draw), dim=1)
    theirs = ours.clone()
    mean, square = torch.zeros_like(ours), torch.zeros_like(ours)
    reference = torch.optim.Adam([theirs], lr=1.0, betas=(0.8, 0.99), eps=6.25e-10)
    for step in range(1, 6):
        gradient = torch.randn(shape, generator=draw) * 1e-4
        touched = torch.rand(shape[0], generator=draw) < 0.7 if step > 2 else None
        theirs.grad = gradient * (factor or 1)
        if touched is not None:
            theirs.grad[~touched] = 0
            gradient[~touched] = torch.nan  # never read
        if unit_rows:
            theirs.grad -= (theirs.grad * theirs).sum(dim=1, keepdim=True) * theirs
        reference.param_groups[0]["lr"] = 0.01 / step
        reference.step()
        if unit_rows:
            theirs.div_(theirs.norm(dim=1, keepdim=True))
        adam = Adam(lr=0.01 / step, step=step, beta1=0.8, beta2=0.99, eps=6.25e-10)
        given = (ours, gradient.T.contiguous().T, mean, square, adam)
        shorten = None if factor is None else torch.tensor(factor)
        tritonupdate.update(*given, unit_rows=unit_rows, factor=shorten, touched=touched)
    state = reference.state[theirs]
    torch.testing.assert_close(ours, theirs, rtol=3e-6, atol=3e-6)
    torch.testing.assert_close(mean, state["exp_avg"], rtol=1e-4, atol=3e-10)
    torch.testing.assert_close(square, state["exp_avg_sq"], rtol=1e-4, atol=3e-14)


def test_a_row_of_zeros_stays_finite() -> None:
    four = [torch.zeros(2, 3) for _ in range(4)]
    tritonupdate.update(*four, Adam(lr=0.1, step=1), unit_rows=True)
    assert torch.equal(four[0], torch.zeros(2, 3))
