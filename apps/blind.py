"""Blind rating: units shown by their contexts alone, neuron or latent hidden, rated and counted.

``<workspace>/units/<model>/<site>/blind.ratings.jsonl`` holds one JSON object a line and is only
ever appended to, by the same one forced write as notes; the last rating of a unit counts.

    {"basis": "neurons", "unit": 17, "time": "...", "rating": 4, "label": "...",
     "table": "<key of the table that was looked at>", "round": 0}

1. A round is a seeded draw of equally many units of each basis, of like density: from each stratum
   of the log densities that all bases reach, equally many of each, so that rarity does not give
   away what is what. Where that would leave less than half of the units asked for, they are drawn
   from all live ones instead, and the page says so.
2. They are shown in a seeded random order, with nothing on the page that names their basis: no
   address, no colour, no figure, and activations as shares of the unit's own maximum.
3. The summary is the mean rating by basis with the 95 % interval of Student's t, and the mean
   difference between two with that of Welch's t. Ratings are taken as independent.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from apps import notes
from interp.errors import ConfigError

RATINGS = ("unlike things", "mostly unlike things", "cannot tell", "mostly one thing", "one thing")
"""What the ratings 1 to 5 say."""
STRATA = 4
LONGEST = 200
"""Characters of a label."""


@dataclass(frozen=True, kw_only=True)
class Rating:
    """What was said about one unit, not knowing what it was."""

    basis: str
    unit: int
    time: str
    """UTC, ISO 8601 to the microsecond."""
    rating: int
    """1 to 5, see `RATINGS`."""
    label: str = ""
    """What it fires on, in the rater's words."""
    table: str = ""
    """Key of the unit table it was made on."""
    round: int = 0
    """Seed of the draw that it belongs to."""

    def __post_init__(self) -> None:
        """Refuse what the file should not hold."""
        if self.unit < 0 or not self.basis:
            raise ConfigError(f"a rating needs a basis and a unit, got {self.basis!r}, {self.unit}")
        if not 1 <= self.rating <= len(RATINGS):
            raise ConfigError(f"rating must be 1 to {len(RATINGS)}, got {self.rating}")
        if len(self.label) > LONGEST:
            raise ConfigError(f"a label has at most {LONGEST} characters; shorten it")


@dataclass(frozen=True)
class Draw:
    """The units of a round."""

    units: list[tuple[str, int]]
    """Basis and index, in the order they are shown in."""
    matched: bool
    """Whether the bases' units are of like density."""


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean with its 95 % interval; NaN bounds where one value is all there is."""

    count: int
    mean: float
    low: float
    high: float


def draw(densities: Mapping[str, np.ndarray], each: int, seed: int) -> Draw:
    """The units of a round, in the order they are shown in.

    Args:
        densities: per basis, the share of tokens on which each unit is active.
        each: units of each basis.
        seed: of the draw.

    Raises:
        ConfigError: fewer than two bases, or one has no live unit.
    """
    if len(densities) < 2:
        raise ConfigError("choose at least two bases to tell apart")
    live = {name: np.flatnonzero(values > 0) for name, values in sorted(densities.items())}
    if not all(len(units) for units in live.values()):
        raise ConfigError("a basis has no live unit; choose another")
    rng = np.random.default_rng([seed, 0xB11D])
    chosen = _alike(live, densities, each, rng)
    matched = len(chosen) >= len(live) * each / 2
    if not matched:
        chosen = [
            (name, int(unit))
            for name, units in live.items()
            for unit in rng.permutation(units)[:each]
        ]
    return Draw([chosen[place] for place in rng.permutation(len(chosen))], matched)


def _alike(
    live: Mapping[str, np.ndarray],
    densities: Mapping[str, np.ndarray],
    each: int,
    rng: np.random.Generator,
) -> list[tuple[str, int]]:
    """Equally many units of every basis from each stratum of log density."""
    logs = {name: np.log(densities[name][units]) for name, units in live.items()}
    low, high = max(v.min() for v in logs.values()), min(v.max() for v in logs.values())
    if low > high:
        return []
    edges = np.linspace(low, high, STRATA + 1)[1:-1]
    chosen: list[tuple[str, int]] = []
    for stratum in range(STRATA):
        inside = {
            name: units[
                (logs[name] >= low)
                & (logs[name] <= high)
                & (np.searchsorted(edges, logs[name], side="right") == stratum)
            ]
            for name, units in live.items()
        }
        quota = each // STRATA + (stratum < each % STRATA)
        count = min(quota, *(len(units) for units in inside.values()))
        for name, units in inside.items():
            chosen += [(name, int(unit)) for unit in rng.permutation(units)[:count]]
    return chosen


def path_of(folder: Path) -> Path:
    """The file of ratings in a site's folder of unit tables."""
    return folder / notes.BLIND


def append(path: Path, rating: Rating) -> None:
    """Add a rating to a file.

    Raises:
        ResourceError: no space is left, or the folder cannot be written.
    """
    notes.append_line(path, asdict(rating))


def latest(path: Path) -> list[Rating]:
    """The last rating of every unit that has one, by time; lines that are no ratings left out."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = [rating for line in lines if (rating := _parsed(line)) is not None]
    last = {(each.basis, each.unit): each for each in sorted(found, key=lambda each: each.time)}
    return sorted(last.values(), key=lambda each: each.time)


def summary(ratings: Sequence[Rating]) -> dict[str, Mean]:
    """Mean rating by basis."""
    by: dict[str, list[int]] = {}
    for each in ratings:
        by.setdefault(each.basis, []).append(each.rating)
    return {name: _mean(np.array(values, float)) for name, values in sorted(by.items())}


def difference(ratings: Sequence[Rating], one: str, other: str) -> Mean | None:
    """Mean rating of one basis less that of another; None with fewer than two ratings of each."""
    a, b = (
        np.array([each.rating for each in ratings if each.basis == name], float)
        for name in (one, other)
    )
    if min(len(a), len(b)) < 2:
        return None
    va, vb = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    gap = float(a.mean() - b.mean())
    if va + vb == 0:
        return Mean(count=len(a) + len(b), mean=gap, low=math.nan, high=math.nan)
    freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    half = float(stdtrit(freedom, 0.975) * np.sqrt(va + vb))
    return Mean(count=len(a) + len(b), mean=gap, low=gap - half, high=gap + half)


def _mean(values: np.ndarray) -> Mean:
    mean, n = float(values.mean()), len(values)
    if n < 2 or values.std() == 0:  # equal ratings say nothing about the spread of others
        return Mean(count=n, mean=mean, low=math.nan, high=math.nan)
    half = float(stdtrit(n - 1, 0.975) * values.std(ddof=1) / math.sqrt(n))
    return Mean(count=n, mean=mean, low=mean - half, high=mean + half)


def _parsed(line: bytes) -> Rating | None:
    try:
        value: Any = json.loads(line)
        return Rating(
            basis=str(value["basis"]),
            unit=int(value["unit"]),
            time=str(value["time"]),
            rating=int(value["rating"]),
            label=str(value.get("label", "")),
            table=str(value.get("table", "")),
            round=int(value.get("round", 0)),
        )
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError):
        return None
