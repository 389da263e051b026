"""Dictionaries that differ in nothing but their seed: means with intervals over the seeds.

A name that ends in ``-s0``, ``-s1``, ... is a seed's. With n of them the interval is mean ± t s/√n,
t the 97.5 % point of Student's distribution with n - 1 degrees of freedom: wide for two seeds, as
it must be.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from interp.evaluate.report import Report

_SEED = re.compile(r"-s\d+$")


@dataclass(frozen=True, kw_only=True)
class OverSeeds:
    """One figure of dictionaries of one make."""

    address: str
    """Their address without the seed."""
    figure: str
    """Which figure."""
    seeds: int
    """How many dictionaries."""
    mean: float
    """Of the figure."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end of that interval."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


def over_seeds(reports: Sequence[Report]) -> list[OverSeeds]:
    """Means over the seeds of every make that has at least two."""
    makes: dict[str, list[Report]] = {}
    for report in reports:
        if _SEED.search(report.address):
            makes.setdefault(_SEED.sub("", report.address), []).append(report)
    found: list[OverSeeds] = []
    for address, some in makes.items():
        if len(some) < 2:
            continue
        for figure, values in _figures(some).items():
            found.append(_interval(address, figure, np.array(values)))
    return found


def _figures(reports: Sequence[Report]) -> dict[str, list[float]]:
    """The figures that all of them have."""
    found = {
        "FVE": [each.heldout.fve for each in reports],
        "L0": [each.heldout.l0 for each in reports],
        "dead": [each.heldout.dead_fraction for each in reports],
    }
    losses = [each.downstream for each in reports if each.downstream is not None]
    if len(losses) == len(reports):
        found["+CE"] = [each.ce_dictionary - each.ce for each in losses]
        found["recovered"] = [each.loss_recovered for each in losses]
        found["KL"] = [each.kl for each in losses]
    return found


def _interval(address: str, figure: str, values: np.ndarray) -> OverSeeds:
    from scipy.stats import t

    mean = float(values.mean())
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    return OverSeeds(
        address=address,
        figure=figure,
        seeds=len(values),
        mean=mean,
        low=mean - half,
        high=mean + half,
    )
