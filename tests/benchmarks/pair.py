"""What a benchmark yields."""

from collections.abc import Callable
from typing import NamedTuple


class Pair(NamedTuple):
    """Two ways of doing the same work."""

    label: str
    ours: Callable[[], object]
    plain: Callable[[], object]
    amount: int = 0
    """How much work that is, where a speed says more than milliseconds."""
    unit: str = ""
