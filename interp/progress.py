"""How long jobs tell their caller where they stand, without knowing who listens."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called with the work done, the work in all, and a short note (such as loss or FVE)."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


def silent(done: int, total: int, note: str = "") -> None:
    """The listener that ignores everything; every job's default."""


@dataclass(frozen=True)
class Part:
    """Progress of one of several pieces of work that are equally long."""

    progress: Progress
    """Who is told."""
    number: int
    """Which, from 0."""
    of: int
    """How many there are."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Tell of this part as of the whole."""
        self.progress(self.number * total + done, self.of * total, note)
