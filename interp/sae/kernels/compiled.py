"""How several threads share one compiled loop.

Every loop that threads share owns what it writes: a range of rows or of latents, added up in a
fixed order. So the number of threads changes the time and never a byte.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from interp.sae.kernels.clock import timed


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """One pool a process: threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix="interp-kernel")


def share(loop: Callable[..., Any], bounds: Sequence[int], *args: Any) -> None:
    """Call ``loop(first, last, *args)`` for each two neighbours of ``bounds``, side by side."""
    parts = [(first, last) for first, last in pairwise(bounds) if last > first]
    with timed(loop.__name__):
        others = [
            _pool(os.getpid(), torch.get_num_threads()).submit(loop, first, last, *args)
            for first, last in parts[1:]
        ]
        if parts:
            loop(*parts[0], *args)
        for other in others:
            other.result()


def even(rows: int) -> list[int]:
    """Bounds of equal ranges, one a thread; torch's thread count is the setting."""
    threads = torch.get_num_threads()
    return [rows * part // threads for part in range(threads + 1)]


def balanced(offsets: NDArray[Any]) -> list[int]:
    """Bounds of ranges of latents with about equally many entries, one a thread."""
    threads = torch.get_num_threads()
    aims = offsets[-1] * np.arange(1, threads) // threads
    return [0, *np.searchsorted(offsets[:-1], aims).tolist(), len(offsets) - 1]
