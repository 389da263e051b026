"""Selection from bfloat16 products, as a setting of a training: same losses, or a refusal."""

import pytest
import torch

from interp.errors import ConfigError, UnknownName
from interp.sae import Matryoshka, TopK, TrainConfig, architectures, train
from interp.sae.kernels.compiledstep import CompiledBackend
from interp.sae.sparse import SparseLearner
from tests.sae.planted import Planted
from tests.sae.shared import planted_store, small, trainer_on

SEARCHING = sorted(kind for kind, cls in architectures().items() if cls().searches())


def test_those_that_select_are_known() -> None:
    assert SEARCHING == ["batchtopk", "matryoshka", "topk"]


@pytest.mark.parametrize("kind", SEARCHING)
def test_a_training_is_the_same_but_for_rounding(kind: str) -> None:
    losses = {}
    for search in ("full", "bf16"):
        config = TrainConfig(tokens=128 * 200, batch=128, lr=3e-3, dead_after=640, search=search)
        trainer = trainer_on(Planted(batch=128), small(kind, latents=96, k=4, aux_k=8), config)
        losses[search] = [float(trainer.step().loss) for _ in range(60)]
        learner = trainer.learner
        assert isinstance(learner, SparseLearner)
        assert isinstance(learner.backend, CompiledBackend)
        assert learner.backend.encode.search == search
        assert ("full" in learner.backend._kept) == (search == "bf16")  # products in full a row
    assert losses["bf16"] == pytest.approx(losses["full"], rel=1e-4)
    assert losses["full"][-1] < 0.9 * losses["full"][0]


def test_it_repeats_to_the_byte_from_the_command_line(workspace, capsys) -> None:
    from interp.cli import main

    planted_store(workspace.store("toy"))
    flags = ["--search", "bf16", "--k", "3", "--latents", "48", "--tokens", "2048", "--batch", "64"]
    made = []
    for name in ("a", "b"):
        assert main(["train", "toy", "resid_post.0", *flags, "--out", name]) == 0
        (folder,) = workspace.root.glob(f"dictionaries/*/*/{name}")
        made.append((folder / "weights.safetensors").read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize("kind", sorted({*architectures()} - {*SEARCHING}))
def test_what_does_not_select_refuses(kind: str, tmp_path) -> None:
    store = planted_store(tmp_path / "store")
    with pytest.raises(ConfigError, match=r"search=bf16 is for .*topk"):
        train(store, "resid_post.0", small(kind, k=3), out=tmp_path / "d", search="bf16")
    assert not (tmp_path / "d").exists()


def test_bf16_products_have_nothing_to_search(tmp_path) -> None:
    store = planted_store(tmp_path / "store")
    given = {"out": tmp_path / "d", "search": "bf16", "precision": "bf16"}
    with pytest.raises(ConfigError, match="search=bf16 has no effect on precision=bf16"):
        train(store, "resid_post.0", TopK(k=3, latents=48), **given)


def test_a_step_that_is_not_compiled_refuses(monkeypatch) -> None:
    monkeypatch.setattr("interp.sae.kernels.find_spec", lambda name: None)
    config = TrainConfig(tokens=1280, batch=128, search="bf16")
    for chosen in (TopK(k=4, latents=64), Matryoshka(k=4, latents=64)):
        with pytest.raises(ConfigError, match="for steps compiled for a CPU"):
            trainer_on(Planted(batch=128), chosen, config)


def test_an_unknown_search_is_named(tmp_path) -> None:
    store = planted_store(tmp_path / "store")
    with pytest.raises(UnknownName, match="unknown value of TrainConfig.search 'bf17'"):
        train(store, "resid_post.0", TopK(k=3, latents=48), out=tmp_path / "d", search="bf17")


def test_double_precision_is_never_rounded() -> None:
    backend = CompiledBackend("bf16")
    weights, x = torch.eye(4, dtype=torch.float64), torch.ones(3, 4, dtype=torch.float64)
    from interp.sae.kernels import Rule, Weights

    zeros = torch.zeros(4, dtype=torch.float64)
    backend.step(Weights(weights, zeros, weights, zeros), x, Rule(2, "row", 0, 0.0), 1.0)
    assert "full" not in backend._kept
