"""Where a step's time goes: seconds by part, counted only while somebody asks."""

import time
from collections import defaultdict
from collections.abc import Generator
from contextlib import contextmanager


class Clock:
    """Seconds by part, step for step."""

    running: "Clock | None" = None
    """Who asks; at most one a process."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        """Of each step its parts, and under ``whole`` all of it."""
        self._parts: dict[str, float] = defaultdict(float)

    def add(self, part: str, seconds: float) -> None:
        """Count seconds for a part; those of ``whole`` end a step."""
        self._parts[part] += seconds
        if part == "whole":
            self.steps.append(dict(self._parts))
            self._parts.clear()


@contextmanager
def clock() -> Generator[Clock, None, None]:
    """Count what happens within the block."""
    before, Clock.running = Clock.running, Clock()
    try:
        yield Clock.running
    finally:
        Clock.running = before


@contextmanager
def timed(part: str) -> Generator[None, None, None]:
    """Count the block for a part, if somebody asks; a part within another counts in both."""
    running = Clock.running
    if running is None:
        yield
        return
    start = time.perf_counter()
    yield
    running.add(part, time.perf_counter() - start)
