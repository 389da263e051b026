"""Dead latents begin again where the dictionary errs most; the rest is left alone."""

import numpy as np
import pytest
import torch

from interp.errors import ConfigError
from interp.sae import TopK, TrainConfig, train
from interp.sae.resample import drawn_rows
from interp.sae.trainer import Trainer
from tests.sae.planted import Planted
from tests.sae.shared import ORIGIN, planted_store, small, trainer_on


def begin(kind: str, config: TrainConfig, silenced: int) -> Trainer:
    architecture = small(kind, latents=96, k=4)
    trainer = trainer_on(Planted(batch=128), architecture, config)
    trainer.empty = lambda: architecture.dictionary(64, ORIGIN)
    trainer.learner.weights.b_enc[:silenced] = -30.0
    return trainer


def test_rows_are_drawn_by_the_square_of_their_loss_and_none_twice() -> None:
    residual = torch.tensor([[1.0, 0], [0, 2.0], [0, 0], [2.0, 1.0]])
    rng = np.random.default_rng(0)
    first = np.array([drawn_rows(residual, 1, rng)[0] for _ in range(4000)])
    expected = np.array([1.0, 16.0, 0.0, 25.0]) / 42
    np.testing.assert_allclose(np.bincount(first, minlength=4) / 4000, expected, atol=0.03)
    assert sorted(drawn_rows(residual, 9, rng)) == [0, 1, 3]
    assert len(drawn_rows(torch.zeros(3, 2), 2, rng)) == 0


@pytest.mark.parametrize("kind", ["topk", "jumprelu", "gated"])
def test_dead_latents_get_residual_directions_and_fresh_moments(kind: str) -> None:
    config = TrainConfig(tokens=128 * 40, batch=128, lr=1e-2, dead_after=256, resample=128 * 6)
    trainer = begin(kind, config, 30)
    for _ in range(5):
        trainer.step()
    batch = trainer.batches.draw(128, 6)
    trainer.step()  # the sixth resamples
    weights, moments = trainer.learner.weights, trainer.optimizer.state
    set_ = (weights.b_enc == 0) & (moments[weights.b_enc]["exp_avg_sq"] == 0)
    assert set_[:30].all()
    assert not set_[trainer.silent > 0].any()
    norms = weights.encoder.norm(dim=1)
    torch.testing.assert_close(norms[set_], (0.5 * norms[~set_].mean()).expand(int(set_.sum())))
    torch.testing.assert_close(weights.decoder.norm(dim=1), torch.ones(96))
    cosines = (weights.encoder * weights.decoder).sum(dim=1) / norms
    torch.testing.assert_close(cosines[set_], torch.ones(int(set_.sum())))
    for name in ("exp_avg", "exp_avg_sq"):
        assert not moments[weights.decoder][name][set_].any()
        assert moments[weights.decoder][name][~set_].any(dim=1).any()
    for tensor in weights.extra.values():
        torch.testing.assert_close(tensor[set_], tensor[~set_].mean().expand(int(set_.sum())))
    # each direction is the residual of one row under the weights of before, which differ in
    # nothing that those rows show: the silent latents wrote nothing
    dictionary = trainer.empty()
    before = weights.b_enc.clone()
    weights.b_enc[set_] = -30.0
    trainer.learner.dictionary(dictionary, 1.0)
    weights.b_enc.copy_(before)
    x = torch.from_numpy(batch) * trainer.scale
    with torch.no_grad():
        left = x - dictionary(x)
    left = left / left.norm(dim=1, keepdim=True)
    found = (weights.decoder[set_] @ left.T).max(dim=1)
    # extras of the set latents have moved since; where there are none the match is exact
    assert (found.values > 0.999).all()
    assert len(found.indices.unique()) == len(found.indices)


@pytest.mark.parametrize(
    "kind",
    ["topk", *(pytest.param(k, marks=pytest.mark.slow) for k in ("batchtopk", "l1", "jumprelu"))],
)
def test_resampling_leaves_fewer_dead(kind: str) -> None:
    dead = {}
    for every in (10**9, 128 * 40):
        config = TrainConfig(
            tokens=128 * 200, batch=128, lr=1e-2, dead_after=2000, resample=every, decay=0.4
        )
        trainer = begin(kind, config, 40)
        while not trainer.finished:
            trainer.step()
        dead[every] = int(trainer.dead()[:40].sum())
    assert dead[10**9] == 40  # no other help was at work
    assert dead[128 * 40] < 0.5 * 40, dead


def test_it_comes_every_so_many_tokens_and_never_while_the_learning_rate_falls() -> None:
    config = TrainConfig(tokens=1000, batch=10, decay=0.3, resample=150)
    assert [step for step in range(1, 101) if config.resamples(step)] == [15, 30, 45, 60]
    uneven = TrainConfig(tokens=1000, batch=40, decay=0.0, warmup=0.0, resample=100)
    assert [n for n in range(1, 26) if uneven.resamples(n)] == [3, 5, 8, 10, 13, 15, 18, 20, 23, 25]
    assert not any(TrainConfig(tokens=1000, batch=10).resamples(step) for step in range(1, 101))


def test_a_broken_run_with_resampling_continues_to_the_same_bytes(tmp_path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int, note: str = "") -> None:
        if done >= 64 * 33:
            raise Stop

    store = planted_store(tmp_path / "store")
    config = TrainConfig(
        tokens=64 * 60, batch=64, lr=1e-2, dead_after=128, resample=64 * 5, log_every=3
    )
    config_ = {"checkpoint_every": 64 * 7}
    site, chosen = "resid_post.0", TopK(latents=300, k=2)
    train(store, site, chosen, config, out=tmp_path / "whole", **config_)
    with pytest.raises(Stop):
        train(store, site, chosen, config, out=tmp_path / "d", progress=stop, **config_)
    train(store, site, chosen, config, out=tmp_path / "d", **config_)
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    for name in names:
        assert (tmp_path / "d" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    train(store, site, chosen, config, out=tmp_path / "off", resample=None, **config_)
    weights = "weights.safetensors"
    assert (tmp_path / "off" / weights).read_bytes() != (tmp_path / "d" / weights).read_bytes()


def test_a_frozen_decoder_is_not_resampled(tmp_path) -> None:
    store = planted_store(tmp_path / "store")
    config = TrainConfig(tokens=640, batch=64, resample=64)
    with pytest.raises(ConfigError, match="frozen_decoder"):
        train(store, "resid_post.0", TopK(k=2, frozen_decoder=True), config, out=tmp_path / "d")
    assert not (tmp_path / "d").exists()
