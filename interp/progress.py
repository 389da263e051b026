"""How long jobs tell their caller where they stand, without knowing who listens."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Called with the work done, the work in all, and a short note (such as loss or FVE)."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


def silent(done: int, total: int, note: str = "") -> None:
    """The listener that ignores everything; every job's default."""
