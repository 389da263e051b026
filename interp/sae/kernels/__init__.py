"""One training step of a dictionary whose codes are sparse, on interchangeable backends.

`DenseBackend` is the truth: the textbook formulas, differentiated by autograd. `SparseBackend`
computes the same numbers by hand from (row, latent, value) lists and never forms a dense
[batch, latents] gradient. `compiledstep.CompiledBackend` does so in loops compiled for a CPU. The
README beside this file draws which array is touched when.
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import torch

from interp.sae.kernels.dense import DenseBackend
from interp.sae.kernels.interface import Backend, Rule, StepResult, Weights
from interp.sae.kernels.sparse import SparseBackend

__all__ = [
    "Backend",
    "DenseBackend",
    "Rule",
    "SparseBackend",
    "StepResult",
    "Weights",
    "backends",
    "default_backend",
    "has_compiled",
]


def backends() -> dict[str, Callable[[], Backend]]:
    """Every backend by name; ``dense`` is the reference."""
    from interp.sae.kernels.compiledstep import CompiledBackend  # numba takes long to import

    return {
        "compiled": CompiledBackend,
        "compiled-bfloat16": partial(CompiledBackend, "bfloat16"),
        "dense": DenseBackend,
        "sparse": SparseBackend,
    }


def has_compiled(device: torch.device) -> bool:
    """Whether the compiled loops run there: on a CPU, where numba is installed."""
    return device.type == "cpu" and find_spec("numba") is not None


def default_backend(device: torch.device) -> Backend:
    """The fastest exact backend on a device: compiled on a CPU, plain torch elsewhere."""
    return backends()["compiled"]() if has_compiled(device) else SparseBackend()
