"""One training step of a dictionary whose codes are sparse, on interchangeable backends.

`DenseBackend` is the truth: the textbook formulas, differentiated by autograd. `SparseBackend`
computes the same numbers by hand from (row, latent, value) lists and never forms a dense
[batch, latents] gradient. The README beside this file draws which array is touched when.
"""

from collections.abc import Callable

from interp.sae.kernels.dense import DenseBackend
from interp.sae.kernels.interface import Backend, Rule, StepResult, Weights
from interp.sae.kernels.sparse import SparseBackend

__all__ = ["Backend", "DenseBackend", "Rule", "SparseBackend", "StepResult", "Weights", "backends"]


def backends() -> dict[str, Callable[[], Backend]]:
    """Every backend by name; ``sparse`` is the default and ``dense`` the reference."""
    return {"dense": DenseBackend, "sparse": SparseBackend}
