"""Trainings as they stand on disk: log.jsonl while they run and after, metrics.json at the end.

A log is read whole, at most a few thousand lines. A line that a kill cut short, or that another
program wrote, is skipped.
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from interp.errors import FormatError
from interp.files import read_json

QUANTITIES = ("loss", "FVE", "L0", "dead")
QUIET = 600
"""Seconds without a line after which an unfinished training is taken to have stopped."""


@dataclass(frozen=True)
class Curve:
    """Points of one quantity over training tokens."""

    tokens: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Run:
    """One dictionary's training."""

    name: str
    """``model/site/dictionary``."""
    finished: bool
    tokens: int
    """Tokens trained on so far."""
    asked: int | None
    """Tokens it is to be trained on."""
    logged: float | None
    """Time of the last line, seconds since the epoch."""
    train: dict[str, Curve] = field(default_factory=dict[str, Curve])
    """By quantity, on the batches of training."""
    heldout: dict[str, Curve] = field(default_factory=dict[str, Curve])
    """By quantity, on held-out rows."""
    note: str = ""
    """Why nothing can be read."""

    @property
    def site(self) -> str:
        """``model/site``."""
        return self.name.rpartition("/")[0]

    @property
    def dictionary(self) -> str:
        """The dictionary's own name."""
        return self.name.rpartition("/")[2]

    @property
    def progress(self) -> float | None:
        """Share of the training that is done, if its length is known."""
        return min(self.tokens / self.asked, 1.0) if self.asked else None

    def state(self, now: float | None = None) -> str:
        """*finished*, *running*, *stopped* or *unreadable*."""
        if self.note:
            return "unreadable"
        if self.finished:
            return "finished"
        quiet = (time.time() if now is None else now) - (self.logged or 0)
        return "running" if quiet < QUIET else "stopped"

    def words(self, now: float | None = None) -> str:
        """How far an unfinished training is."""
        share = "" if self.progress is None else f"{100 * self.progress:.0f} % of "
        asked = f"{self.asked:,} tokens" if self.asked else f"{self.tokens:,} tokens so far"
        if self.logged is None:
            return f"{share}{asked}, nothing logged yet"
        quiet = max((time.time() if now is None else now) - self.logged, 0)
        return f"{share}{asked}, last line {_ago(quiet)} ago"


def read_run(folder: Path) -> Run:
    """A training by its dictionary's folder; what is damaged is said in its note."""
    name = "/".join(folder.parts[-3:])
    try:
        config = read_json(folder / "config.json")
        if config.get("format") != "interp-dictionary":
            raise FormatError(f"{folder / 'config.json'} describes no dictionary of interp")
    except FormatError as error:
        return Run(name=name, finished=False, tokens=0, asked=None, logged=None, note=str(error))
    train, heldout = _curves(_lines(folder / "log.jsonl"))
    try:
        logged = (folder / "log.jsonl").stat().st_mtime
    except OSError:
        logged = None
    curves = [*train.values(), *heldout.values()]
    asked = _dictionary(config.get("train")).get("tokens")
    return Run(
        name=name,
        finished=config.get("state") == "finished",
        tokens=max((int(curve.tokens[-1]) for curve in curves), default=0),
        asked=asked if isinstance(asked, int) and asked > 0 else None,
        logged=logged,
        train=train,
        heldout=heldout,
    )


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            value: object = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield _dictionary(value)


def _curves(lines: Iterable[dict[str, Any]]) -> tuple[dict[str, Curve], dict[str, Curve]]:
    train: dict[str, list[tuple[float, float]]] = {}
    heldout: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        tokens = _number(line.get("tokens"))
        measured = _dictionary(line.get("heldout"))
        into = heldout if measured else train
        fve = _number(measured.get("fve"))
        if not measured:
            unexplained = _number(line.get("unexplained"))
            fve = None if unexplained is None else 1 - unexplained
        found = {
            "loss": _number(line.get("loss")),
            "FVE": fve,
            "L0": _number((measured or line).get("l0")),
            "dead": _number((measured or line).get("dead")),
        }
        for name, value in found.items():
            if tokens is not None and value is not None:
                into.setdefault(name, []).append((tokens, value))
    return _arrays(train), _arrays(heldout)


def _arrays(found: Mapping[str, list[tuple[float, float]]]) -> dict[str, Curve]:
    return {name: Curve(*np.array(points, dtype=np.float64).T) for name, points in found.items()}


def _number(value: object) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
    return float(value) if good else None  # type: ignore[arg-type]


def _dictionary(value: object) -> dict[str, Any]:
    return {str(key): each for key, each in value.items()} if isinstance(value, dict) else {}


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
