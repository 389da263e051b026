"""Datapoint initialisation: latents whose first directions are partly rows of the data."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.errors import ConfigError
from interp.sae import BatchTopK, Dictionary, TopK, TrainConfig, architectures, train
from interp.sae.crosslayer import CrossLayerLearner, layers_of
from interp.sae.job import Job
from interp.sae.learner import Learner, blended, points
from interp.sae.parallel import ALONE, Mesh
from interp.sae.parallel.trainer import learner_of
from interp.sae.transcoder import TranscoderLearner
from tests.sae.planted import Planted
from tests.sae.shared import CPU, ORIGIN, planted_store, small
from tests.sae.test_parallel import on_a_grid

LATENTS, K = 96, 4


def rows(n: int = 400) -> torch.Tensor:
    return torch.from_numpy(Planted(batch=64, bias=1.0).draw(n, 3)).float()


def begun(learner: Learner, x: torch.Tensor, share: float, seed: int = 0) -> Learner:
    learner.begin(x.mean(dim=0), x, TrainConfig(data_init=share, seed=seed))
    return learner


def cosines(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    unit = torch.nn.functional.normalize
    return unit(a, dim=1) @ unit(b, dim=1).T


def test_rows_are_blended_as_documented_and_keep_their_length() -> None:
    g = np.random.default_rng(0)
    own, toward = g.standard_normal((2, 7, 5))
    toward[3] = 0
    found = blended(*map(torch.from_numpy, (own, toward)), 0.3).numpy()
    for j in range(7):
        length = np.linalg.norm(own[j])
        u = 0.7 * own[j] / length + 0.3 * toward[j] / max(np.linalg.norm(toward[j]), 1e-12)
        np.testing.assert_allclose(found[j], length * u / np.linalg.norm(u), rtol=1e-12)
    np.testing.assert_allclose(found[3], own[3])


@pytest.mark.parametrize("latents", [5, 11, 12, 40])
def test_no_row_is_taken_twice_before_all_were(latents) -> None:
    x = torch.arange(11.0)[:, None]
    taken = points(x, latents, torch.Generator().manual_seed(0))[:, 0].long().bincount(minlength=11)
    assert taken.sum() == latents
    assert taken.max() - taken.min() <= 1


@pytest.mark.parametrize("kind", sorted(architectures()))
def test_every_architecture_begins_near_rows_of_the_data(kind) -> None:
    x = rows()
    make = small(kind, latents=LATENTS, k=K).learner
    random, turned = (begun(make(x.shape[1], CPU), x, p).weights for p in (0.0, 0.8))
    near = cosines(turned.decoder, x - x.mean(dim=0)).amax(dim=1)
    assert near.min() > 0.9  # √(.8² / (.8² + .2²)) = .97 where the two parts are at right angles
    assert cosines(random.decoder, x - x.mean(dim=0)).amax(dim=1).mean() < 0.8
    torch.testing.assert_close(turned.decoder.norm(dim=1), random.decoder.norm(dim=1))
    torch.testing.assert_close(
        cosines(turned.encoder, turned.decoder).diagonal(), torch.ones(LATENTS)
    )
    again = begun(make(x.shape[1], CPU), x, 0.8).weights
    other = begun(make(x.shape[1], CPU), x, 0.8, seed=1).weights
    assert torch.equal(turned.decoder, again.decoder)
    assert not torch.equal(turned.decoder, other.decoder)


def test_a_transcoder_turns_what_it_reads_and_still_predicts_the_mean() -> None:
    x = rows()
    read = TranscoderLearner(TopK(latents=LATENTS, k=K), 40, x.shape[1] - 40, CPU)
    weights = begun(read, x, 0.8).weights
    assert cosines(weights.encoder, (x - x.mean(dim=0))[:, :40]).amax(dim=1).min() > 0.9
    assert not weights.decoder.any()


def test_of_a_cross_layer_transcoder_each_latent_turns_to_its_own_site() -> None:
    x = rows()
    widths = ((24, 16), (14, 10))
    architecture = TopK(latents=LATENTS, k=K, cross_layer=True)
    encoder = begun(CrossLayerLearner(architecture, widths, CPU), x, 0.8).weights.encoder
    own = layers_of(LATENTS, 2) == 0
    centred = x - x.mean(dim=0)
    assert not encoder[own, 24:].any()
    assert not encoder[~own, :24].any()
    assert cosines(encoder[own, :24], centred[:, :24]).amax(dim=1).min() > 0.9
    assert cosines(encoder[~own, 24:], centred[:, 24:40]).amax(dim=1).min() > 0.9


def test_divided_latents_begin_as_undivided_ones() -> None:
    x, config = rows(), TrainConfig(data_init=0.8)
    architecture = TopK(latents=LATENTS, k=K)
    job = Job(
        architecture=architecture, config=config, origin=ORIGIN, d_in=x.shape[1], folder=Path("d")
    )

    def first(mesh: Mesh) -> torch.Tensor:
        return learner_of(job, mesh, CPU, x.mean(dim=0), x).weights.decoder

    whole = first(ALONE)
    assert cosines(whole, x - x.mean(dim=0)).amax(dim=1).min() > 0.9
    assert torch.equal(torch.cat(on_a_grid(1, 2, first)), whole)


def test_training_takes_it_and_says_so(tmp_path) -> None:
    store = planted_store(tmp_path / "store", sinks=40)
    config = TrainConfig(tokens=2048, batch=256, data_init=0.5)

    def trained(name: str, config: TrainConfig) -> Dictionary:
        return train(store, "resid_post.0", BatchTopK(latents=40, k=2), config, out=tmp_path / name)

    found, again = (trained(name, config) for name in ("a", "b"))
    other = trained("c", replace(config, data_init=0.0))
    assert torch.equal(found.W_dec, again.W_dec)
    assert not torch.equal(found.W_dec, other.W_dec)
    assert '"data_init": 0.5' in (tmp_path / "a" / "config.json").read_text()


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_cannot_be_is_refused(share) -> None:
    with pytest.raises(ConfigError, match=r"data_init must lie in 0\.\.1, below 1"):
        TrainConfig(data_init=share)


def test_a_frozen_decoder_stays_random(tmp_path) -> None:
    store = planted_store(tmp_path / "store")
    frozen = TopK(latents=24, k=2, frozen_decoder=True)
    with pytest.raises(ConfigError, match="frozen_decoder keeps random"):
        train(store, "resid_post.0", frozen, data_init=0.5, out=tmp_path / "d")
    assert not (tmp_path / "d").exists()
