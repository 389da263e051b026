"""The start of training: an encoder whose length is fitted to the data."""

import numpy as np
import pytest
import torch

from interp.sae import architectures
from tests.sae.planted import Planted
from tests.sae.shared import CPU, small

LATENTS, K = 96, 4


def started(kind: str, x: torch.Tensor, *, fitted: bool):
    learner = small(kind, latents=LATENTS, k=K).learner(x.shape[1], CPU)
    learner.initialise(x.mean(dim=0), torch.Generator().manual_seed(0))
    if fitted:
        learner.fit_encoder(x)
    return learner.weights


def rows() -> torch.Tensor:
    return torch.from_numpy(Planted(batch=64, bias=1.0).draw(400, 3)).float()


def left(x: np.ndarray, encoder: np.ndarray, decoder: np.ndarray, centre: np.ndarray) -> float:
    """Σ‖x - x̂‖² of the n·k largest products, in float64."""
    products = np.maximum((x - centre) @ encoder.T, 0)
    smallest = np.sort(products, axis=None)[-K * len(x)]
    z = np.where(products >= smallest, products, 0)
    return float(np.square(x - centre - z @ decoder).sum())


@pytest.mark.parametrize("kind", ["topk", "batchtopk", "matryoshka", "lista"])
def test_no_other_length_reconstructs_the_sample_better(kind):
    x = rows()
    unit, fitted = (started(kind, x, fitted=each) for each in (False, True))
    length = fitted.encoder.norm(dim=1)
    torch.testing.assert_close(length, length[:1].expand(LATENTS))
    assert 0 < float(length[0]) < 1  # random rows overlap
    torch.testing.assert_close(fitted.encoder / length[0], unit.encoder)
    assert torch.equal(fitted.decoder, unit.decoder)
    exact = [each.double().numpy() for each in (x, fitted.encoder, fitted.decoder, fitted.b_dec)]
    best = left(*exact)
    for factor in (0.98, 1.02, 1 / float(length[0])):
        assert left(exact[0], exact[1] * factor, *exact[2:]) > best


@pytest.mark.parametrize("scale", [0.0, 1.0], ids=["zero", "constant"])
@pytest.mark.parametrize("kind", sorted(architectures()))
def test_what_does_not_vary_leaves_finite_weights(kind, scale):
    weights = started(kind, torch.full((50, 16), scale), fitted=True)
    for _, tensor in weights.items():
        assert torch.isfinite(tensor).all()
    assert float(weights.encoder.norm()) > 0


@pytest.mark.parametrize("kind", ["l1", "gated", "jumprelu"])
def test_architectures_without_a_selection_keep_their_length(kind):
    x = rows()
    unit, fitted = (started(kind, x, fitted=each) for each in (False, True))
    assert torch.equal(unit.encoder, fitted.encoder)
