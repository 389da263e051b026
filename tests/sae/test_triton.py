"""The GPU's kernels, run on a CPU by Triton's interpreter, and compiled for an H200 without one."""

import dataclasses
import subprocess
import sys
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from interp.errors import ConfigError
from interp.sae import TrainConfig
from interp.sae.kernels import (
    DenseBackend,
    Rule,
    Weights,
    backends,
    default_backend,
    rounding_backend,
)
from interp.sae.kernels.update import Adam
from tests.sae import test_kernels as proofs
from tests.sae.planted import Planted
from tests.sae.shared import small, trainer_on

pytest.importorskip("triton")
from triton import knobs
from triton.runtime import interpreter

from interp.sae.kernels import tritonencode, tritonlaunch, tritonupdate
from interp.sae.kernels import tritonlists as lists
from interp.sae.kernels import tritonselect as selection

if not knobs.runtime.interpret:
    pytest.skip("TRITON_INTERPRET is off: see test_triton_gpu.py", allow_module_level=True)

Per = Literal["row", "batch"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """The interpreter patches the language at each call of a helper; once a file is enough."""
    seen = set()

    def call(self, *args, **kwargs):
        if id(self.fn.__globals__) not in seen:
            seen.add(id(self.fn.__globals__))
            interpreter._patch_lang(self.fn)
        return self.rewrite()(*args, **kwargs)

    monkeypatch.setattr(interpreter.InterpretedFunction, "__call__", call)


# -- whole steps --------------------------------------------------------------------------------


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


# -- waiting for the device ----------------------------------------------------------------------


class Waits(TorchDispatchMode):
    """Notes every operation that a host cannot start without a number from the device.

    That is one whose result is a number of the host's, or has a shape that depends on the data:
    also what must not happen while a CUDA graph is captured.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        needs = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
        name = str(func.overloadpacket)
        if name in ("aten.index", "aten.index_put", "aten.index_put_"):  # a mask's length
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            waits = bool(masks) and (len(args) == 2 or args[2].numel() > 1)  # one value fills it
        else:
            waits = bool(needs & set(func.tags))
        self.seen += [name] * waits
        return func(*args, **(kwargs or {}))


@pytest.fixture
def kernels_apart(monkeypatch):
    """The interpreter's own work is none of a GPU's."""

    def launch(*args, **settings):
        with _disable_current_modes():
            tritonlaunch.launch(*args, **settings)

    for part in (selection, lists, tritonupdate):
        monkeypatch.setattr(part, "launch", launch)


@pytest.mark.parametrize(("name", "dtype"), [("triton", torch.float64), ("triton-bfloat16", None)])
@pytest.mark.parametrize(("per", "waited"), [("row", []), ("batch", ["aten._local_scalar_dense"])])
def test_only_the_batch_rule_waits_for_the_device_and_once(
    name: str, dtype, per: Per, waited: list[str], kernels_apart
) -> None:
    weights, x, dead = proofs.problem(5, n=2, d_in=3, latents=8, dtype=dtype or torch.float32)
    rule = Rule(k=2, per=per, aux_k=2, aux_coefficient=1 / 32)
    backend = backends()[name]()
    backend.step(weights, x, rule, 3.0, dead)  # from now on the batch rule has a guess
    with Waits() as waits:
        found = backend.step(weights, x, rule, 3.0, dead)
        assert waits.seen == waited
        two = [tensor.encoder.float() for tensor in (weights, found.gradients)]
        moments = [torch.zeros_like(two[0]) for _ in range(2)]
        tritonupdate.update(*two, *moments, Adam(lr=0.1, step=1), unit_rows=True)
        assert waits.seen == waited


def test_whatever_waits_for_the_device_is_seen() -> None:
    x = torch.tensor([1.0, 0.0])
    with Waits() as waits:
        float(x[0])
        bool(x.any())
        x.nonzero()
        x[x > 0]
        x[x < 2] = torch.tensor([1.0, 0.0])
        x[x > 5] = 0  # needs nothing
        x.unique()
        torch.equal(x, x + 1)
        torch.where(x > 0, x, 0).sum().sqrt()  # nor does this
    assert waits.seen == [
        "aten._local_scalar_dense",
        "aten._local_scalar_dense",
        "aten.nonzero",
        "aten.index",
        "aten.index_put_",
        "aten._unique2",
        "aten.equal",
    ]


# -- single kernels -----------------------------------------------------------------------------


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


@pytest.mark.parametrize("unit_rows", [True, False])
@pytest.mark.parametrize("shape", [(9, 19), (2, 2304), (1, 5000)])
def test_the_one_pass_update_equals_torchs_adam(shape, unit_rows: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    ours = normalize(torch.randn(shape, generator=draw), dim=1)
    theirs = ours.clone()
    mean, square = torch.zeros_like(ours), torch.zeros_like(ours)
    reference = torch.optim.Adam([theirs], lr=1.0, betas=(0.8, 0.99), eps=6.25e-10)
    for step in range(1, 6):
        gradient = torch.randn(shape, generator=draw) * 1e-4
        touched = torch.rand(shape[0], generator=draw) < 0.7 if step > 2 else None
        theirs.grad = gradient.clone()
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
        tritonupdate.update(*given, unit_rows=unit_rows, touched=touched)
    state = reference.state[theirs]
    torch.testing.assert_close(ours, theirs, rtol=3e-6, atol=3e-6)
    torch.testing.assert_close(mean, state["exp_avg"], rtol=1e-4, atol=3e-10)
    torch.testing.assert_close(square, state["exp_avg_sq"], rtol=1e-4, atol=3e-14)


def test_a_row_of_zeros_stays_finite() -> None:
    four = [torch.zeros(2, 3) for _ in range(4)]
    tritonupdate.update(*four, Adam(lr=0.1, step=1), unit_rows=True)
    assert torch.equal(four[0], torch.zeros(2, 3))


# -- where it runs ------------------------------------------------------------------------------


def test_what_cannot_be_computed_is_refused(monkeypatch) -> None:
    weights, x, _ = proofs.problem(3, n=4, d_in=5, latents=6)
    rule = Rule(k=2, per="row", aux_k=0, aux_coefficient=0.0)
    with pytest.raises(ConfigError, match=r"need float32 or float64, got torch\.bfloat16"):
        backends()["triton"]().step(weights, x.bfloat16(), rule, 3.0)
    with pytest.raises(ConfigError, match=r"need float32, got torch\.float64"):
        backends()["triton-bfloat16"]().step(weights, x, rule, 3.0)
    monkeypatch.setattr(knobs.runtime, "interpret", False)
    with pytest.raises(ConfigError, match="need a CUDA device, got cpu; use another backend"):
        backends()["triton"]().step(weights, x, rule, 3.0)
    four = [torch.zeros(3, 2).T for _ in range(4)]
    with pytest.raises(ConfigError, match=r"needs contiguous weights; call \.contiguous\(\)"):
        tritonupdate.update(*four, Adam(lr=0.1, step=1))


def test_it_is_the_default_on_a_gpu_where_triton_is_installed(monkeypatch) -> None:
    cuda = torch.device("cuda")
    assert type(default_backend(cuda)).__name__ == "TritonBackend"
    assert type(rounding_backend(cuda)).__name__ == "TritonBackend"
    assert isinstance(rounding_backend(torch.device("cpu")), DenseBackend)
    monkeypatch.setattr("interp.sae.kernels.find_spec", lambda name: None)
    assert type(default_backend(cuda)).__name__ == "SparseBackend"
    assert isinstance(rounding_backend(cuda), DenseBackend)
    assert not any(name.startswith("triton") for name in backends())
    assert isinstance(backends()["dense"](), DenseBackend)


def test_a_trainer_takes_step_and_update_from_it(monkeypatch) -> None:
    """As on a GPU, where only `has_triton` differs; against the compiled loops of a CPU."""
    trained = []
    for here in (False, True):
        monkeypatch.setattr("interp.sae.kernels.has_triton", lambda device, here=here: here)
        monkeypatch.setattr("interp.sae.adam.has_triton", lambda device, here=here: here)
        config = TrainConfig(tokens=15, batch=5, lr=1e-3)
        source = Planted(d_in=16, features=32, p=0.1, batch=5)
        trainer = trainer_on(source, small("batchtopk", latents=12, k=2), config)
        assert (type(trainer.learner.backend).__name__ == "TritonBackend") == here
        losses = [float(trainer.step().loss) for _ in range(config.steps())]
        trained.append((losses, dict(trainer.learner.weights.items())))
    (theirs, expected), (ours, found) = trained
    assert ours == pytest.approx(theirs, rel=1e-4)
    for name in ("decoder", "b_dec"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5, msg=name)
    for name in (
        "encoder",
        "b_enc",
    ):  # Adam's first step magnifies gradients that are mere rounding
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=config.lr, msg=name)


COMPILE = """
import sys
import interp.sae.kernels
assert "triton" not in sys.modules  # imported when a GPU's step is made, not before

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from interp.sae.kernels import tritonlists as l, tritonselect as s, tritonupdate as u

F, B, I, L, U = "*fp32", "*bf16", "*i32", "*i64", "*u8"
for kernel, types, warps, settings in (
    (l._reconstruct, [F, B, L, L, F, I, B, F, F, "i32"], 4, {"COLUMNS": 256, "ENTRIES": 16}),
    (l._gather, [L, L, F, F, F, B, B, F, F, F, "i32"], 4,
        {"FRESH": False, "COLUMNS": 256, "ENTRIES": 16}),
    (s._survivors, [F, F, U, F, I, I, "i32", "i32", "i32"], 8, {"MASKED": True, "BLOCK": 1024}),
    (s._cut, [F, I, I, F, I, "i32"], 2, {"ROOM": 128}),
    (s._count_above, [F, F, F, I, "i32"], 8, {"BLOCK": 1024}),
    (s._collect_above, [F, F, F, L, F, I, "i32", "i32"], 8, {"BLOCK": 1024}),
    (u._update, [F, F, F, F, U, "i32", "i32"] + ["fp32"] * 7, 8,
        {"UNIT": True, "ASKED": True, "BLOCK": 4096}),
):
    types = types + ["constexpr"] * len(settings)
    source = ASTSource(kernel, dict(zip(kernel.arg_names, types, strict=True)), settings)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
    print(kernel.__name__, len(made.asm["cubin"]))
"""


def test_kernels_compile_for_an_h200_on_any_machine(tmp_path, monkeypatch) -> None:
    """To machine code: what the interpreter takes, the compiler may not."""
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sizes = [int(line.split()[1]) for line in done.stdout.splitlines()]
    assert len(sizes) == 7
    assert min(sizes) > 0
