"""A published result, what reproducing it must show, and what was measured.

A result is one file in `interp.lab.results`, found by itself: an `Experiment` whose fields are its
settings. It is measured once for every seed, and each `Expected` quantity passes when its mean over
the seeds lies in the accepted range, which was fixed before measuring. A reproduction that fails is
reported as failed, with what is known of the reason. Quantities for which nothing was published or
derived are reported without a verdict.
"""

import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from interp.errors import ConfigError, DataError, UnknownName
from interp.progress import Progress, silent

Effort = Literal["quick", "full"]

_KNOWN: dict[str, type["Experiment"]] = {}


@dataclass(frozen=True, kw_only=True)
class Expected:
    """One quantity and the range in which its mean over the seeds must lie."""

    quantity: str
    """Its name, a key of `Measurement.values`."""
    value: float
    """What was published or derived."""
    low: float
    """Least accepted mean."""
    high: float = math.inf
    """Greatest accepted mean."""
    why: str = ""
    """What is known of the reason where it fails, in one sentence printed beside the failure."""

    def accepts(self, mean: float) -> bool:
        """Whether a mean is a reproduction."""
        return self.low <= mean <= self.high


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Series of points to be drawn; whoever draws chooses how."""

    title: str
    """What it shows, in a few words."""
    kind: Literal["line", "scatter", "heatmap"]
    """Points joined in their order, points alone, or (x, y, value) cells."""
    x: str
    """Label of the horizontal axis."""
    y: str
    """Label of the vertical axis."""
    series: Mapping[str, list[tuple[float, ...]]]
    """Points by the name of their series."""
    log: tuple[Literal["x", "y"], ...] = ()
    """The axes that are logarithmic."""
    slider: str = ""
    """What a slider runs through, one series at a time; without it all are drawn together."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What one seed gave."""

    values: Mapping[str, float]
    """Quantities by name; those that nothing `Expected` names are reported without a verdict."""
    figures: tuple[Figure, ...] = ()
    """Pictures; those of the first seed are kept."""
    notes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Texts by heading, such as what a model wrote; those of the first seed are kept."""

    def __post_init__(self) -> None:
        """Refuse what is no number."""
        for name, value in self.values.items():
            if not math.isfinite(value):
                raise DataError(f"{name} came out as {value}; the training diverged, lower its lr")


@dataclass(frozen=True, kw_only=True)
class Experiment(ABC):
    """Settings common to all results, and what each must provide."""

    name: ClassVar[str]
    """What `interp lab run` calls it."""
    paper: ClassVar[str]
    """Where it was published."""
    claim: ClassVar[str]
    """What must be seen, in one sentence."""

    seeds: int = 3
    """How often it is measured: with seeds 0, 1, 2, ..."""

    def __init_subclass__(cls) -> None:
        """Register the class under its own ``name``, if it has one."""
        name = cls.__dict__.get("name")
        if name is not None:
            _KNOWN[name] = cls

    def __post_init__(self) -> None:
        """Check what all results share."""
        if self.seeds < 1:
            raise ConfigError(f"seeds must be at least 1, got {self.seeds}")

    @classmethod
    @abstractmethod
    def at(cls, effort: Effort) -> "Experiment":
        """The settings of the quick form (under three minutes) or of the full one."""

    @abstractmethod
    def expected(self) -> tuple[Expected, ...]:
        """What must come out, decided before anything is measured."""

    @abstractmethod
    def measure(self, seed: int, progress: Progress = silent) -> Measurement:
        """Measure it once.

        Args:
            seed: governs everything random.
            progress: told the work done.
        """


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One quantity over the seeds."""

    values: tuple[float, ...]
    """What came out, seed by seed."""

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return math.fsum(self.values) / len(self.values)

    @property
    def spread(self) -> float | None:
        """Sample standard deviation over the seeds; None for one seed."""
        if len(self.values) < 2:
            return None
        squares = math.fsum((value - self.mean) ** 2 for value in self.values)
        return math.sqrt(squares / (len(self.values) - 1))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {"values": list(self.values), "mean": self.mean, "spread": self.spread}


@dataclass(frozen=True, kw_only=True)
class Reported(Measured):
    """A quantity for which nothing was published or derived."""

    quantity: str
    """Its name, a key of `Measurement.values`."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {"quantity": self.quantity, **super().to_dict()}


@dataclass(frozen=True, kw_only=True)
class Check(Measured):
    """One expected quantity beside what was measured."""

    expected: Expected
    """What must come out."""

    @property
    def passed(self) -> bool:
        """Whether the mean lies in the accepted range."""
        return self.expected.accepts(self.mean)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; an open end of the range is None."""
        bounds = {
            key: value if math.isfinite(value) else None
            for key, value in (("low", self.expected.low), ("high", self.expected.high))
        }
        return {
            "quantity": self.expected.quantity,
            "expected": self.expected.value,
            **bounds,
            **super().to_dict(),
            "passed": self.passed,
            "why": "" if self.passed else self.expected.why,
        }


@dataclass(frozen=True, kw_only=True)
class Result:
    """A published result as it was reproduced here."""

    name: str
    """Its name in the lab."""
    paper: str
    """Where it was published."""
    claim: str
    """What must be seen."""
    effort: Effort
    """Quick or full."""
    setting: dict[str, Any]
    """Every setting, the number of seeds included."""
    checks: tuple[Check, ...]
    """Expected beside measured."""
    reported: tuple[Reported, ...] = ()
    """Measured without an expectation."""
    figures: tuple[Figure, ...]
    """Pictures, of the first seed."""
    notes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Texts by heading, of the first seed."""

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "name": self.name,
            "paper": self.paper,
            "claim": self.claim,
            "effort": self.effort,
            "setting": self.setting,
            "passed": self.passed,
            "checks": [check.to_dict() for check in self.checks],
            "reported": [each.to_dict() for each in self.reported],
            "figures": [asdict(figure) for figure in self.figures],
            "notes": dict(self.notes),
        }


def experiments() -> dict[str, type[Experiment]]:
    """Every result's class by name, in alphabetical order."""
    from interp.lab import results as folder

    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")
    return dict(sorted(_KNOWN.items()))


def find_experiment(name: str) -> type[Experiment]:
    """The class of one result.

    Raises:
        UnknownName: there is no such result.
    """
    known = experiments()
    if name not in known:
        raise UnknownName("result", name, known, "`interp lab list` lists them.")
    return known[name]
