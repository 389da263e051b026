"""The compiled backend: exact selection, whole numbers of ties, any thread count, its refusals."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import ConfigError
from interp.sae.kernels import DenseBackend, Rule, Weights, backends, default_backend, selecting
from interp.sae.kernels import compiledencode as module
from interp.sae.kernels.compiledstep import CompiledBackend

COMPILED = ["compiled", "compiled-bfloat16", "compiled-bfloat16-near"]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**16),
    width=st.integers(1, 400),
    k=st.integers(1, 64),
    distinct=st.sampled_from([1, 3, 50, 10**6]),
    shift=st.sampled_from([-1.0, 0.0, 1.0]),
    columns=st.booleans(),
)
def test_selected_entries_are_those_of_a_full_sort(seed, width, k, distinct, shift, columns):
    """Many ties or none, fewer than k positive, all negative, any width, some columns only."""
    rng = np.random.default_rng(seed)
    pre = (rng.integers(-distinct, distinct + 1, (3, width)) / distinct).astype(np.float32)
    bias = np.full(width, shift, np.float32)
    which = np.flatnonzero(rng.random(width) < 0.5) if columns else np.arange(width)
    if len(which) == 0:
        return
    k = min(k, len(which))
    values, latents = np.zeros(3 * k, np.float32), np.zeros(3 * k, np.int32)
    ends = np.zeros(3, np.int64)
    names = which.astype(np.int32) if columns else np.empty(0, np.int32)
    selecting.select(0, 3, 0, pre, bias, names, k, ends, values, latents)
    for i in range(3):
        order = sorted(which, key=lambda j: (-(pre[i, j] + bias[j]), j))[:k]
        expected = {(int(j), float(pre[i, j] + bias[j])) for j in order if pre[i, j] + bias[j] > 0}
        part = slice(i * k, ends[i])
        found = list(zip(latents[part].tolist(), values[part].tolist(), strict=True))
        assert len(found) == len(expected)
        assert set(found) == expected


def whole_numbers(seed: int, n: int, d_in: int, latents: int) -> tuple[Weights, torch.Tensor]:
    """Numbers too long for bfloat16 whose products are exact in float32, in any order."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.integers(-1000, 1001, shape).astype(np.float32))

    weights = Weights(draw(latents, d_in), draw(latents), draw(latents, d_in), draw(d_in))
    return weights, draw(n, d_in)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**16),
    n=st.integers(1, 9),
    latents=st.integers(2, 300),
    k=st.integers(1, 8),
    bias=st.sampled_from([0, -(10**6), 10**6]),
    per=st.sampled_from(["row", "batch"]),
    guess=st.sampled_from([None, 1e-3, 1e9]),
)
def test_the_bfloat16_search_misses_nothing(seed, n, latents, k, bias, per, guess):
    """Without rounding in float32, what is selected must be the dense reference's to the bit."""
    weights, x = whole_numbers(seed, n, 3, latents)
    weights.b_enc.add_(bias)
    rule = Rule(k=min(k, latents), per=per, aux_k=3, aux_coefficient=0.5)
    dead = torch.arange(latents) % 3 == 0
    dense = DenseBackend().step(weights, x, rule, 1e6, dead)
    backend = CompiledBackend("bf16")
    backend.encode.guess = guess
    found = backend.step(weights, x, rule, 1e6, dead)
    assert torch.equal(found.fired, dense.fired)
    assert torch.equal(found.l0, dense.l0)
    assert torch.equal(found.smallest, dense.smallest)
    torch.testing.assert_close(found.loss, dense.loss, rtol=1e-5, atol=0)
    torch.testing.assert_close(found.aux, dense.aux, rtol=1e-5, atol=1e-6)


def planted(n: int = 300, d_in: int = 48, latents: int = 200) -> tuple[Weights, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    decoder = torch.nn.functional.normalize(torch.randn(latents, d_in, generator=draw), dim=1)
    weights = Weights(decoder.clone(), torch.zeros(latents), decoder, torch.zeros(d_in))
    return weights, torch.randn(n, d_in, generator=draw)


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize("per", ["row", "batch"])
def test_the_number_of_threads_changes_no_byte(name: str, per, monkeypatch) -> None:
    weights, x = planted()
    rule = Rule(k=4, per=per, aux_k=8, aux_coefficient=0.5)
    dead = torch.arange(200) % 2 == 0
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        result = backends()[name]().step(weights, x, rule, 48.0, dead)
        found.append([result.loss, *(gradient for _, gradient in result.gradients.items())])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize("search", ["full", "bf16", "bf16-near"])
def test_far_too_many_candidates_are_cut_early_and_exactly(search, monkeypatch) -> None:
    """A guess of nothing makes every positive entry a candidate."""
    weights, x = planted()
    rule = Rule(k=2, per="batch", aux_k=0, aux_coefficient=0.0)
    expected = DenseBackend().step(weights, x, rule, 48.0)
    monkeypatch.setattr(module, "CHUNK", 4 * 10)  # bytes: ten rows
    backend = CompiledBackend(search)
    backend.encode.guess = 0.0
    found = backend.step(weights, x, rule, 48.0)
    assert torch.equal(found.fired, expected.fired)
    room = 5 / 4 * (module.SPARE * 2 * 300 + 10 * 200)  # candidates kept, and one chunk
    assert len(backend._kept["grown values"]) <= room < 300 * 100  # about the positive entries
    torch.testing.assert_close(found.loss, expected.loss)


@pytest.mark.parametrize("name", ["sparse", "compiled"])
def test_a_batch_that_overflowed_does_not_hold_up_the_next(name: str) -> None:
    weights, x = planted()
    rule = Rule(k=2, per="batch", aux_k=0, aux_coefficient=0.0)
    expected = DenseBackend().step(weights, x, rule, 48.0)
    for broken in (torch.inf, torch.nan, 1e38):
        for columns in (slice(None), slice(1)):  # in one column: every threshold is infinite
            spoilt = x.clone()
            spoilt[:, columns] = broken
            backend = backends()[name]()
            backend.step(weights, spoilt, rule, 48.0)
            assert torch.equal(backend.step(weights, x, rule, 48.0).fired, expected.fired)


@pytest.mark.parametrize("name", COMPILED)
@pytest.mark.parametrize("per", ["row", "batch"])
def test_buffers_serve_batches_of_any_size_in_turn(name: str, per) -> None:
    weights, x = planted()
    rule = Rule(k=4, per=per, aux_k=8, aux_coefficient=0.5)
    dead = torch.arange(200) % 2 == 0
    backend = backends()[name]()
    for rows in (300, 7, 300, 150):
        expected = backends()[name]().step(weights, x[:rows], rule, 48.0, dead)
        found = backend.step(weights, x[:rows], rule, 48.0, dead)
        assert torch.equal(found.loss, expected.loss)
        pairs = zip(found.gradients.items(), expected.gradients.items(), strict=True)
        assert all(torch.equal(a, b) for (_, a), (_, b) in pairs)


@pytest.mark.parametrize("name", COMPILED)
def test_a_weight_that_is_no_number_shows_in_the_gradients(name: str) -> None:
    weights, x = planted()
    weights.encoder[3, 5] = torch.nan
    rule = Rule(k=4, per="row", aux_k=0, aux_coefficient=0.0)
    assert backends()[name]().step(weights, x, rule, 48.0).gradients.b_dec.isnan().any()


def test_only_single_and_double_precision_are_taken() -> None:
    weights, x = planted()
    rule = Rule(k=4, per="row", aux_k=0, aux_coefficient=0.0)
    with pytest.raises(ConfigError, match=r"float32 or float64 on a CPU, got torch\.bfloat16"):
        backends()["compiled"]().step(weights, x.bfloat16(), rule, 48.0)


def test_the_default_is_compiled_on_a_cpu_and_plain_without_numba(monkeypatch) -> None:
    assert type(default_backend(torch.device("cpu"))).__name__ == "CompiledBackend"
    monkeypatch.setattr("interp.sae.kernels.find_spec", lambda name: None)
    assert type(default_backend(torch.device("cpu"))).__name__ == "SparseBackend"


def test_nothing_needs_to_be_writable() -> None:
    """Where machine code cannot be kept, it is made again."""
    code = (
        "import numba.core.caching as c\n"
        "c.CacheImpl._locator_classes = []\n"
        "import numpy as np\n"
        "from interp.sae.kernels.selecting import bisect\n"
        "print(bisect(np.array([3.0, 1.0, 2.0]), 2, 2))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1 < float(done.stdout) <= 2
