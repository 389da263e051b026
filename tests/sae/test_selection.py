"""What is particular to TopK and to BatchTopK."""

import numpy as np
import pytest
import torch

from interp.errors import ConfigError
from interp.sae import BatchTopK, TopK, TrainConfig
from interp.sae.kinds.batchtopk import DECAY
from tests.sae.planted import Planted
from tests.sae.shared import CPU, finish, trainer_on


def test_topk_has_exactly_k_active_latents_in_training_and_after() -> None:
    source, chosen = Planted(batch=128), TopK(latents=256, k=5)
    trainer = trainer_on(source, chosen, TrainConfig(tokens=128 * 30, batch=128, lr=1e-2))
    while not trainer.finished:
        assert float(trainer.step().l0) == 5
    dictionary = finish(trainer, chosen)
    x = torch.from_numpy(source.draw(100, 9))
    z = dictionary.encode(x)
    assert ((z > 0).sum(dim=1) == 5).all()
    values, indices = dictionary.encode_sparse(x)
    assert torch.equal(torch.zeros_like(z).scatter(1, indices, values), z)
    assert (values.diff(dim=1) <= 0).all()


def test_batchtopk_has_k_on_average_in_training_and_nearly_so_by_its_threshold() -> None:
    source, chosen = Planted(batch=512), BatchTopK(latents=256, k=5)
    trainer = trainer_on(source, chosen, TrainConfig(tokens=512 * 400, batch=512, lr=5e-3))
    spread = 0
    while not trainer.finished:
        assert float(trainer.step().l0) == 5
    dictionary = finish(trainer, chosen)
    active = (dictionary.encode(torch.from_numpy(source.draw(4096, 9))) > 0).sum(dim=1)
    spread = len(active.unique())
    assert active.float().mean() == pytest.approx(5, rel=0.1)
    assert spread > 3  # and hard rows use more than easy ones
    assert len(dictionary.threshold.unique()) == 1


def test_the_threshold_is_the_decayed_mean_of_the_smallest_active_values() -> None:
    learner = BatchTopK(latents=24, k=2).learner(8, CPU)
    learner.initialise(torch.zeros(8), torch.Generator().manual_seed(0))
    assert learner.threshold() == 0
    smallest = []
    for seed in range(30):
        x = torch.randn(16, 8, generator=torch.Generator().manual_seed(seed))
        pre = ((x - learner.weights.b_dec) @ learner.weights.encoder.T).flatten().numpy()
        smallest.append(np.sort(pre)[-32])
        learner.step(x, 1.0, None)
    weight = DECAY ** np.arange(30)[::-1]
    assert learner.threshold() == pytest.approx((weight * smallest).sum() / weight.sum(), rel=1e-5)


@pytest.mark.parametrize("architecture", [TopK, BatchTopK])
def test_k_beyond_the_width_or_the_latents_is_refused(architecture) -> None:
    with pytest.raises(
        ConfigError, match="k=20 is more than the 128 latents or the site's width 16"
    ):
        architecture(k=20).check(16)
    with pytest.raises(ConfigError, match="k=9 is more than the 8 latents"):
        architecture(k=9, latents=8).check(16)
    assert architecture(k=16).label(16) == f"{architecture.kind}-128-k16"
