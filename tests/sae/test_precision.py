"""bf16 reaches the matrix products and nothing else; what it costs is small and repeatable."""

import numpy as np
import pytest
import torch

from interp.errors import UnknownName
from interp.sae import TrainConfig, architectures, train
from interp.sae.kernels import DenseBackend
from interp.sae.precision import computing
from tests.sae.planted import Planted
from tests.sae.shared import CPU, finish, planted_store, small, trainer_on


def test_bf16_rounds_products_and_everything_is_put_back_afterwards() -> None:
    a, b = torch.randn(8, 32), torch.randn(32, 8)
    exact = a @ b
    before = torch.backends.cuda.matmul.fp32_precision
    with computing("bf16", CPU):
        assert (a @ b).dtype == torch.bfloat16
    with computing("tf32", CPU):
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        assert torch.equal(a @ b, exact)  # a CPU takes no notice
    assert torch.backends.cuda.matmul.fp32_precision == before
    assert torch.equal(a @ b, exact)


@pytest.mark.parametrize("kind", sorted(architectures()))
def test_bf16_changes_the_step_a_little_and_leaves_weights_and_moments_float32(kind: str) -> None:
    errors = {}
    for precision in ("fp32", "bf16"):
        config = TrainConfig(tokens=128 * 20, batch=128, lr=1e-3, precision=precision)
        trainer = trainer_on(Planted(batch=128), small(kind, latents=96, k=4), config)
        result = trainer.step()
        for name, weight in trainer.learner.weights.items():
            assert weight.dtype == torch.float32, name
            assert trainer.optimizer.state[weight]["exp_avg_sq"].dtype == torch.float32, name
        errors[precision] = float(result.unexplained), result.gradients.decoder.clone()
        assert finish(trainer, small(kind, latents=96, k=4)).W_dec.dtype == torch.float32
    (exact, full), (rounded, cast) = errors["fp32"], errors["bf16"]
    assert rounded == pytest.approx(exact, rel=0.02)
    assert not torch.equal(full, cast)  # it was at work
    assert torch.nn.functional.cosine_similarity(full.flatten(), cast.flatten(), dim=0) > 0.98


def test_bf16_takes_the_dense_step_where_kernels_are_written_by_hand() -> None:
    config = TrainConfig(tokens=1280, batch=128, precision="bf16")
    chosen = small("topk", latents=64, k=4)
    trainer = trainer_on(Planted(batch=128), chosen, config)
    assert isinstance(trainer.learner.backend, DenseBackend)
    exact = trainer_on(Planted(batch=128), chosen, TrainConfig(tokens=1280, batch=128))
    assert not isinstance(exact.learner.backend, DenseBackend)


@pytest.mark.parametrize("kind", ["l1", pytest.param("batchtopk", marks=pytest.mark.slow)])
def test_bf16_costs_little_and_repeats_to_the_byte(kind: str, tmp_path) -> None:
    store = planted_store(tmp_path / "store")
    x = torch.from_numpy(store.read("resid_post.0", 0, 400))
    fve, weights = {}, {}
    for name, precision in {"a": "fp32", "b": "bf16", "c": "bf16"}.items():
        config = TrainConfig(tokens=64 * 120, batch=64, lr=1e-2, precision=precision)
        chosen = small(kind, latents=48, k=3)
        made = train(store, "resid_post.0", chosen, config, out=tmp_path / name)
        error = (x - made(x)).square().sum() / (x - x.mean(dim=0)).square().sum()
        fve[name] = 1 - float(error)
        weights[name] = (tmp_path / name / "weights.safetensors").read_bytes()
    assert weights["b"] == weights["c"] != weights["a"]
    assert fve["b"] > fve["a"] - 0.02
    assert np.isfinite(list(fve.values())).all()


def test_an_unknown_precision_is_named(tmp_path) -> None:
    store = planted_store(tmp_path / "store")
    with pytest.raises(UnknownName, match="bf16"):
        train(store, "resid_post.0", small("topk", k=3), out=tmp_path / "d", precision="bf17")
