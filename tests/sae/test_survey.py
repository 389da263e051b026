"""The geometric median."""

import numpy as np
import torch
from scipy.optimize import minimize

from interp.sae.survey import geometric_median


def test_geometric_median_minimises_the_summed_distance() -> None:
    rows = np.random.default_rng(0).standard_t(2, size=(200, 4)) + [5, 0, -3, 1]
    found = geometric_median(torch.from_numpy(rows)).numpy()
    best = minimize(lambda m: np.linalg.norm(rows - m, axis=1).sum(), rows.mean(0), tol=1e-12)
    np.testing.assert_allclose(found, best.x, atol=1e-3)


def test_geometric_median_resists_an_outlier_and_survives_coincidence() -> None:
    rows = torch.zeros(11, 3)
    rows[10] = 1e6
    assert geometric_median(rows).norm() < 1
    assert torch.equal(geometric_median(torch.ones(5, 3)), torch.ones(5, 3)[0].double())
