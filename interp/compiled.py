"""How an inner loop becomes machine code, without a compiler to install.

Only modules that hold such loops import this one, and they are imported where a loop is about to
run: numba takes half a second to import.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Loop = TypeVar("Loop", bound=Callable[..., Any])


def compiled(loop: Loop) -> Loop:
    """Machine code at the first call, kept on disk for the next process where one can write.

    Sums may be reordered so that they use the processor's vectors: always in the same way, since
    the order is fixed when the loop is compiled. NaN and infinity keep their meaning. Other threads
    run meanwhile.
    """
    fast = {"reassoc", "contract", "nsz"}
    try:
        return numba.njit(nogil=True, fastmath=fast, cache=True)(loop)  # pyright: ignore[reportReturnType]
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(nogil=True, fastmath=fast)(loop)  # pyright: ignore[reportReturnType]
