"""Power laws fitted to losses, with bootstrap intervals.

1. One variable (Kaplan et al. 2020, 2001.08361): L = (c/x)^α, a straight line of slope -α between
   logarithms, by least squares.
2. Parameters N and data D together (Hoffmann et al. 2022, 2203.15556, their third approach):
   L = E + A/N^α + B/D^β; the Huber loss (δ = 10⁻³) between the logarithms of the two sides,
   minimised by L-BFGS over log E, log A, log B, α, β from a grid of starts; the best counts.
3. A dictionary's error by width n and active latents k (Gao et al. 2024, 2406.04093, without their
   irreducible term): log L = a + b log n + c log k + d log n log k, by least squares.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import huber, logsumexp, softmax

from interp.errors import DataError

HUBER = 1e-3
_STARTS = tuple(product((0.0,), (2.0, 6.0), (2.0, 6.0), (0.2, 0.6), (0.2, 0.6)))
"""log E, log A, log B, α, β."""


@dataclass(frozen=True)
class Line:
    """L = (c/x)^exponent."""

    exponent: float
    log_c: float
    """log c."""
    r_squared: float
    """Share of log L's variance on the line."""


@dataclass(frozen=True)
class Surface:
    """L = E + A/N^alpha + B/D^beta."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float


def fit_line(x: Float[np.ndarray, " run"], loss: Float[np.ndarray, " run"]) -> Line:
    """The power law of one variable.

    Raises:
        DataError: there are not two different x, or a number is not above 0.
    """
    _check(x, loss)
    if len(np.unique(x)) < 2:
        raise DataError("a power law needs runs at two different sizes at least")
    slope, start = np.polyfit(np.log(x), np.log(loss), 1)
    rest = np.log(loss) - start - slope * np.log(x)
    r_squared = 1 - rest.var() / max(np.log(loss).var(), 1e-30)
    return Line(float(-slope), float(-start / slope) if slope else 0.0, float(r_squared))


def fit_surface(
    parameters: Float[np.ndarray, " run"],
    data: Float[np.ndarray, " run"],
    loss: Float[np.ndarray, " run"],
    *,
    near: Surface | None = None,
) -> Surface:
    """The power law of two variables.

    Args:
        parameters: N of each run.
        data: D of each run.
        loss: L of each run.
        near: where to start, in place of the grid.

    Raises:
        DataError: a number is not above 0.
    """
    _check(parameters, loss)
    _check(data, loss)
    n, d, wanted = np.log(parameters), np.log(data), np.log(loss)

    def value(point: Float[np.ndarray, "5"]) -> tuple[float, Float[np.ndarray, "5"]]:
        e, a, b, alpha, beta = point
        terms = np.stack([np.full_like(n, e), a - alpha * n, b - beta * d])
        rest = logsumexp(terms, axis=0) - wanted
        steep = np.clip(rest, -HUBER, HUBER) * softmax(terms, axis=0)
        slopes = [*steep.sum(axis=1), -(steep[1] * n).sum(), -(steep[2] * d).sum()]
        # In units of δ², or L-BFGS would call the flat start a minimum.
        return float(huber(HUBER, rest).sum()) / HUBER**2, np.array(slopes) / HUBER**2

    starts = _STARTS
    if near is not None:
        starts = ((*np.log([near.E, near.A, near.B]), near.alpha, near.beta),)
    found = [minimize(value, start, jac=True, method="L-BFGS-B") for start in starts]
    e, a, b, alpha, beta = min(found, key=lambda each: each.fun).x
    E, A, B = (float(np.exp(each)) for each in (e, a, b))
    return Surface(E, A, B, float(alpha), float(beta))


def fit_width_and_k(
    width: Float[np.ndarray, " run"],
    k: Float[np.ndarray, " run"],
    loss: Float[np.ndarray, " run"],
) -> tuple[Float[np.ndarray, "4"], float]:
    """a, b, c, d of a dictionary's error, and the share of log L's variance they explain.

    Raises:
        DataError: a number is not above 0.
    """
    _check(width, loss)
    _check(k, loss)
    n, few = np.log(width), np.log(k)
    design = np.stack([np.ones_like(n), n, few, n * few], axis=1)
    numbers, *_ = np.linalg.lstsq(design, np.log(loss), rcond=None)
    rest = np.log(loss) - design @ numbers
    return numbers, float(1 - rest.var() / max(np.log(loss).var(), 1e-30))


def bootstrap(
    runs: int,
    fit: Callable[[Int[np.ndarray, " drawn"]], Float[np.ndarray, " number"]],
    *,
    replicates: int,
    seed: int,
    least: int = 2,
) -> tuple[Float[np.ndarray, " number"], Float[np.ndarray, " number"]]:
    """Ends of the 95 % percentile intervals of fitted numbers, runs drawn with replacement.

    Args:
        runs: how many there are.
        fit: gives the numbers for drawn runs.
        replicates: draws.
        seed: of the draws.
        least: different runs a draw must hold; one with fewer is drawn again.
    """
    draw = np.random.default_rng([seed, 0xB007])
    found: list[np.ndarray] = []
    while len(found) < replicates:
        drawn = draw.integers(0, runs, runs)
        if len(np.unique(drawn)) >= min(least, runs):
            found.append(fit(drawn))
    low, high = np.quantile(np.stack(found), [0.025, 0.975], axis=0)
    return low, high


def _check(x: Float[np.ndarray, " run"], loss: Float[np.ndarray, " run"]) -> None:
    if len(x) != len(loss) or not len(x) or min(x.min(), loss.min()) <= 0:
        raise DataError("a power law is fitted to as many sizes as losses, all above 0")
