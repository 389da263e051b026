"""What is particular to BatchTopK: hard rows use more, one threshold serves, who is trained."""

import dataclasses

import numpy as np
import pytest
import torch

from interp.sae import BatchTopK, TrainConfig
from interp.sae.kernels import Rule, backends
from interp.sae.kinds.batchtopk import DECAY
from tests.sae.planted import Planted
from tests.sae.shared import CPU, finish, trainer_on
from tests.sae.test_kernels import NAMES, problem


def test_k_is_a_mean_in_training_and_nearly_so_by_the_threshold() -> None:
    source, chosen = Planted(batch=512), BatchTopK(latents=256, k=5)
    trainer = trainer_on(source, chosen, TrainConfig(tokens=512 * 400, batch=512, lr=5e-3))
    while not trainer.finished:
        assert float(trainer.step().l0) == 5
    dictionary = finish(trainer, chosen)
    active = (dictionary.encode(torch.from_numpy(source.draw(4096, 9))) > 0).sum(dim=1)
    assert active.float().mean() == pytest.approx(5, rel=0.1)
    assert len(active.unique()) > 3  # hard rows use more than easy ones
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


@pytest.mark.parametrize("name", NAMES)
def test_which_parameters_each_term_reaches(name: str) -> None:
    """The reconstruction those latents that were chosen somewhere in the batch, AuxK the dead."""
    weights, x, dead = problem(3, n=40, d_in=8, latents=24)
    weights.b_enc[dead] -= 9.0  # dead latents never win the main selection ...
    rule = Rule(k=2, per="batch", aux_k=4, aux_coefficient=0.0)
    main = backends()[name]().step(weights, x, rule, 5.0, dead)
    assert not main.fired[dead].any()
    for key, gradient in main.gradients.items():
        assert gradient.abs().sum() > 0, key
        if key != "b_dec":
            assert not gradient[~main.fired].any(), key
    weights.b_enc[dead] += 9.0
    weights.b_enc[~dead] += 9.0  # ... nor now, but their values are positive, and AuxK uses them
    both, off = (
        backends()[name]().step(
            weights, x, dataclasses.replace(rule, aux_coefficient=share), 5.0, dead
        )
        for share in (1 / 32, 0.0)
    )
    assert not off.fired[dead].any()
    for key, gradient in both.gradients.items():
        aux = gradient - dict(off.gradients.items())[key]
        assert aux.abs().sum() > 0, key
        if key != "b_dec":
            assert aux[~dead].abs().max() < 1e-14, key
            assert aux[dead].abs().sum() > 0, key
