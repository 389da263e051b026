"""Where the GPU's kernels are taken, what they refuse, and that they compile without a GPU."""

import subprocess
import sys
from typing import Literal

import pytest
import torch

from interp.errors import ConfigError
from interp.sae import TrainConfig
from interp.sae.kernels import (
    DenseBackend,
    Rule,
    backends,
    default_backend,
    rounding_backend,
    tritonupdate,
)
from interp.sae.kernels.update import Adam
from tests.sae import test_kernels as proofs
from tests.sae.interpreted import knobs, quick  # noqa: F401 - skips where there is no Triton
from tests.sae.planted import Planted
from tests.sae.shared import small, trainer_on

Per = Literal["row", "batch"]


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
    (u._update, [F, F, F, F, U, F, "i32", "i32"] + ["fp32"] * 7, 8,
        {"UNIT": True, "ASKED": True, "SHORTEN": True, "BLOCK": 4096}),
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
