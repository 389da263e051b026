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

ROW_WRITTEN = 8
"""Entries whose work equals that of a latent without any whose rows are written all the same."""


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


def balanced(offsets: NDArray[Any], each: int = 0) -> list[int]:
    """Bounds of ranges of latents with about equally much work, one a thread.

    Args:
        offsets: where each latent's entries begin and end [latents + 1].
        each: how many entries' work a latent is, beside that of its own.
    """
    threads, latents = torch.get_num_threads(), len(offsets) - 1
    work = offsets + each * np.arange(latents + 1)
    aims = work[-1] * np.arange(1, threads) // threads
    return [0, *np.searchsorted(work[:-1], aims).tolist(), latents]
