"""How far bfloat16 products are off, surely and likely, and what the search misses by it."""

import numpy as np
import pytest
import torch
from jaxtyping import Float

from interp.sae.kernels import Rule, Weights, searching
from interp.sae.kernels.compiledstep import CompiledBackend
from tests.benchmarks import step as benchmark

Rows = Float[torch.Tensor, "rows d_in"]


def rounded(table: Rows) -> searching.Rounded:
    return CompiledBackend("bf16").encode._rounded("table", table)


def errors(x: Rows, encoder: Rows) -> np.ndarray:
    """Of all products of rounded factors, without rounding of their own."""
    exact = x.double() @ encoder.double().T
    return (x.bfloat16().double() @ encoder.bfloat16().double().T - exact).abs().numpy()


def drawn(kind: str, d_in: int = 576) -> tuple[Rows, Rows]:
    g = torch.Generator().manual_seed(3)
    x, encoder = torch.randn(200, d_in, generator=g), torch.randn(500, d_in, generator=g)
    if kind == "outliers":  # as in language models: few dimensions, a hundred times the others
        x[:, :2] *= 100
    return x, encoder / encoder.norm(dim=1, keepdim=True)


def test_norms_are_those_of_the_rows_and_of_what_rounding_took() -> None:
    x, _ = drawn("outliers")
    found = rounded(x)
    took = (x - x.bfloat16().float()).double()
    for column, order in ((0, 2), (1, 4)):
        expected = torch.linalg.vector_norm(x.double(), ord=order, dim=1)
        np.testing.assert_allclose(found.sizes[:, column], expected, rtol=1e-6)
        expected = torch.linalg.vector_norm(took, ord=order, dim=1)
        np.testing.assert_allclose(found.lost[:, column], expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["plain", "outliers"])
def test_rounding_errors_exceed_their_spread_as_seldom_as_hoeffding_says(kind: str) -> None:
    """The premise, on real errors: P(|error| > λs) ≤ 2 exp(-λ²/2), with s of each product."""
    x, encoder = drawn(kind)
    took = [(t - t.bfloat16().float()).double().square() for t in (x, encoder)]
    variance = took[0] @ encoder.double().square().T + x.double().square() @ took[1].T
    far = errors(x, encoder) / variance.sqrt().numpy()
    assert 0.9 < np.sqrt(np.square(far).mean()) < 1.1  # s is their spread indeed
    for times in (2.0, 3.0, 4.0):
        assert (far > times).mean() <= 2 * np.exp(-(times**2) / 2)


@pytest.mark.parametrize("kind", ["plain", "outliers"])
def test_the_likely_error_covers_what_is_seen_and_is_never_above_the_sure_one(kind: str) -> None:
    x, encoder = drawn(kind)
    largest = errors(x, encoder).max(axis=1)
    rows, latents = rounded(x), rounded(encoder)
    sure, likely = searching.bound(rows, latents), searching.likely(rows, latents)
    assert (largest <= likely).all()  # of 200 rows 0.02 may exceed it
    assert (likely <= sure).all()
    if kind == "plain":
        assert (largest > likely / 10).all()
        assert (likely < sure / 2).all()


def test_errors_that_all_have_one_sign_are_covered_by_the_sure_bound_only() -> None:
    x = torch.full((1, 576), 1 + 0.49 * 2**-7)  # each rounds down to 1
    rows = rounded(x)
    largest = errors(x, x).max()
    assert searching.likely(rows, rows)[0] < largest <= searching.bound(rows, rows)[0]


def test_a_product_that_is_rounded_itself_is_not_missed() -> None:
    """257 lies half way between bfloat16's 256 and 258: its error is 2⁻⁸ of it."""
    encoder = torch.tensor([[256.0, 1.0], [156.0, 0.0]])
    weights = Weights(encoder, torch.tensor([-100.0, 0.9]), encoder, torch.zeros(2))
    rule = Rule(k=1, per="row", aux_k=0, aux_coefficient=0.0)
    found = CompiledBackend("bf16").step(weights, torch.ones(1, 2), rule, 1.0)
    assert found.fired.tolist() == [True, False]  # 157, which looks like 156, and 156.9


@pytest.mark.parametrize("kind", ["plain", "outliers"])
def test_the_near_search_computes_no_more_in_full_and_misses_no_row_in_a_thousand(kind: str):
    _, encoder = drawn(kind)
    g = torch.Generator().manual_seed(4)
    x = torch.randn(1000, encoder.shape[1], generator=g)
    x[:, :2] *= 100 if kind == "outliers" else 1
    weights = Weights(encoder, torch.zeros(500), encoder, torch.zeros(encoder.shape[1]))
    rule = Rule(k=8, per="row", aux_k=0, aux_coefficient=0.0)
    chosen, full = {}, {}
    for search in ("full", "bf16", "bf16-near"):
        backend = CompiledBackend(search)
        assert float(backend.step(weights, x, rule, 1.0).l0) == 8
        chosen[search] = backend._kept["main latents"].view(1000, 8).sort(dim=1).values
        if search != "full":
            full[search] = float(backend._kept["full"].float().mean())
    assert torch.equal(chosen["bf16"], chosen["full"])
    assert torch.equal(chosen["bf16-near"], chosen["full"])
    assert 8 <= full["bf16-near"] <= full["bf16"]
    assert kind == "outliers" or full["bf16-near"] < full["bf16"]


def test_the_benchmark_counts_the_rows_and_latents_that_a_search_misses(monkeypatch) -> None:
    x, encoder = drawn("plain", d_in=64)
    weights = Weights(encoder.clone(), torch.zeros(500), encoder, torch.zeros(64))
    monkeypatch.setattr(benchmark, "STAGES", (1,))
    sure, near = benchmark.misses(x, weights)
    assert "bf16 search after 1 steps: 0.00% of rows and 0.00% of latents" in sure
    assert "bf16-near search after 1 steps: 0.00% of rows and 0.00% of latents" in near
    honest = benchmark.chosen

    def off_by_one(search, *given):
        numbers, full = honest(search, *given)
        numbers[0, 0] = -1 if search == "bf16-near" else numbers[0, 0]
        return numbers, full

    monkeypatch.setattr(benchmark, "chosen", off_by_one)
    sure, near = benchmark.misses(x, weights)
    assert ": 0.00% of rows and 0.00% of latents differ" in sure
    assert ": 0.50% of rows and 0.02% of latents differ" in near  # of 200 rows, of 6,400 latents
