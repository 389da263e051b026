"""The recovery table's scores on dictionaries whose recovery is known."""

import numpy as np
import pytest
import torch

from interp.sae import TopK
from tests.benchmarks.recovery import scores
from tests.sae.planted import Planted
from tests.sae.shared import ORIGIN


def dictionary_of(rows: np.ndarray):
    """TopK whose encoder looks for features that are all orthogonal, and only those."""
    dictionary = TopK(latents=len(rows), k=8).dictionary(rows.shape[1], ORIGIN)
    dictionary.W_dec.data = torch.from_numpy(rows).float()
    dictionary.W_enc.data = dictionary.W_dec.data.T.clone()
    dictionary.b_enc.data.fill_(-1e-3)
    return dictionary


def test_the_truth_scores_one_and_its_halves_what_they_should() -> None:
    source = Planted(d_in=16, features=16, p=0.05)
    source.features = np.eye(16)
    found = scores(source, dictionary_of(np.eye(16)))
    assert found["MMCS"] == found["unique"] == 1
    assert found["F1"] == pytest.approx(1)
    assert found["FVE"] == pytest.approx(1, abs=1e-3)
    assert found["L0"] == pytest.approx(16 * 0.05, rel=0.1)
    assert found["dead"] == 0

    half = scores(source, dictionary_of(np.eye(16)[:8]))  # features 8.. have no latent
    assert half["F1"] == pytest.approx(0.5)
    assert half["MMCS"] == pytest.approx(0.5)

    twice = scores(source, dictionary_of(np.tile(np.eye(16)[:8], (2, 1))))
    assert twice["unique"] == 0.5

    dead = dictionary_of(np.eye(16))
    dead.b_enc.data[:3] = -99
    assert scores(source, dead)["dead"] == 3
