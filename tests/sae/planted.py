"""Activations whose true features are known: sparse sums of unit vectors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment


class Planted:
    """An endless stream of rows, each a sparse sum of fixed unit features.

    A feature is present with probability ``p``, at a magnitude uniform in 0.5..1.5; the rows'
    offset is ``bias``. The seeds of features and draws differ from any that the trainer uses.
    """

    def __init__(self, *, d_in=64, features=128, p=0.03, batch=512, seed=0, bias=0.0) -> None:
        rng = np.random.default_rng([seed, 101])
        directions = rng.standard_normal((features, d_in))
        self.features = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        self.p, self.batch, self.seed, self.bias = p, batch, seed, bias
        self.drawn = 0

    def draw(self, rows: int, key: int) -> np.ndarray:
        return self.labelled(rows, key)[0]

    def labelled(self, rows: int, key: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows, and which features each holds."""
        rng = np.random.default_rng([self.seed, 102, key])
        present = rng.random((rows, len(self.features))) < self.p
        magnitude = rng.uniform(0.5, 1.5, present.shape)
        x = (present * magnitude) @ self.features + self.bias
        return x.astype(np.float32), present

    def __next__(self) -> np.ndarray:
        self.drawn += 1
        return self.draw(self.batch, self.drawn)

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": self.drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.drawn = state["drawn"]


def mmcs(features: np.ndarray, directions: np.ndarray) -> float:
    """Mean over true features of the largest |cosine| to any direction (Sharkey et al. 2022)."""
    return float(np.abs(_cosines(features, directions)).max(axis=1).mean())


def matched(features: np.ndarray, directions: np.ndarray) -> float:
    """Mean |cosine| under the best one-to-one matching."""
    cosines = np.abs(_cosines(features, directions))
    return float(cosines[linear_sum_assignment(-cosines)].mean())


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return a @ b.T
