"""Power laws: planted exponents come back, and wrong data is refused."""

import numpy as np
import pytest

from interp.errors import DataError
from interp.lab.power_law import bootstrap, fit_line, fit_surface, fit_width_and_k

N = np.array([1e3, 5e3, 2e4, 1e5]).repeat(4)
D = np.tile([1e5, 2e5, 4e5, 8e5], 4)


def test_a_planted_line_comes_back():
    x = np.array([10.0, 100, 1000, 5000])
    exact = fit_line(x, (3e4 / x) ** 0.076)
    assert exact.exponent == pytest.approx(0.076)
    assert exact.log_c == pytest.approx(np.log(3e4))
    assert exact.r_squared == pytest.approx(1)
    bent = fit_line(x, np.array([4.0, 1.0, 3.0, 2.0]))
    assert bent.r_squared < 0.5


@pytest.mark.parametrize(
    "planted", [(1.2, 30.0, 400.0, 0.4, 0.45), (1.69, 406.4, 410.7, 0.34, 0.28)]
)
def test_a_planted_surface_comes_back_and_outliers_move_it_little(planted):
    E, A, B, alpha, beta = planted
    loss = E + A / N**alpha + B / D**beta
    found = fit_surface(N, D, loss)
    values = (found.E, found.A, found.B, found.alpha, found.beta)
    np.testing.assert_allclose(values, planted, rtol=0.02)
    loss[5] *= 1.2
    again = fit_surface(N, D, loss, near=found)
    assert (again.alpha, again.beta) == pytest.approx((alpha, beta), rel=0.1)


def test_a_planted_law_of_width_and_k_comes_back():
    n, k = (each.ravel() for each in np.meshgrid([64.0, 128, 256], [4.0, 8, 16]))
    loss = np.exp(1.5 - 0.3 * np.log(n) - 0.5 * np.log(k) + 0.02 * np.log(n) * np.log(k))
    numbers, explained = fit_width_and_k(n, k, loss)
    np.testing.assert_allclose(numbers, [1.5, -0.3, -0.5, 0.02], atol=1e-9)
    assert explained == pytest.approx(1)


def test_bootstrap_intervals_cover_the_mean_as_often_as_they_say():
    draw, covered = np.random.default_rng(0), 0
    for trial in range(100):
        values = draw.normal(3.0, 1.0, 40)

        def mean(drawn, values=values):
            return np.array([values[drawn].mean()])

        low, high = bootstrap(40, mean, replicates=200, seed=trial)
        covered += bool(low[0] < 3.0 < high[0])
    assert 86 <= covered <= 100
    seen: list[int] = []

    def kinds(drawn):
        seen.append(len(np.unique(drawn)))
        return np.zeros(1)

    bootstrap(4, kinds, replicates=30, seed=0, least=3)
    assert min(seen) == 3


def test_what_is_no_power_law_is_refused():
    one = np.ones(3)
    with pytest.raises(DataError, match="two different sizes"):
        fit_line(one, one)
    for fit in (fit_line, lambda x, y: fit_surface(x, x, y)):
        with pytest.raises(DataError, match="above 0"):
            fit(np.array([1.0, 2.0]), np.array([1.0, -1.0]))
    with pytest.raises(DataError, match="above 0"):
        fit_width_and_k(one, one, -one)
