"""One training step of a dictionary whose codes are sparse, on interchangeable backends.

`DenseBackend` is the truth: the textbook formulas, differentiated by autograd. `SparseBackend`
computes the same numbers by hand from (row, latent, value) lists and never forms a dense
[batch, latents] gradient. `compiledstep.CompiledBackend` does so in loops compiled for a CPU,
`tritonstep.TritonBackend` in loops compiled for a GPU. The README beside this file draws which
array is touched when.
"""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeGuard

import torch

from interp.sae.kernels.dense import DenseBackend
from interp.sae.kernels.interface import Backend, Rule, StepResult, Weights
from interp.sae.kernels.sparse import SparseBackend

if TYPE_CHECKING:
    from interp.sae.kernels.compiledstep import CompiledBackend

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
    "has_triton",
    "rounding_backend",
    "searches",
]


def backends() -> dict[str, Callable[[], Backend]]:
    """Every backend by name; ``dense`` is the reference.

    Of those for a CPU only ``compiled-bfloat16-near`` may differ from it by more than rounding.
    """
    from interp.sae.kernels.compiledstep import CompiledBackend  # numba takes long to import

    known: dict[str, Callable[[], Backend]] = {
        "compiled": CompiledBackend,
        "compiled-bfloat16": partial(CompiledBackend, "bf16"),
        "compiled-bfloat16-near": partial(CompiledBackend, "bf16-near"),
        "dense": DenseBackend,
        "sparse": SparseBackend,
    }
    if find_spec("triton") is not None:
        from interp.sae.kernels.tritonstep import TritonBackend

        known |= {"triton": TritonBackend, "triton-bfloat16": partial(TritonBackend, "bfloat16")}
    return known


def has_compiled(device: torch.device) -> bool:
    """Whether the compiled loops run there: on a CPU, where numba is installed."""
    return device.type == "cpu" and find_spec("numba") is not None


def has_triton(device: torch.device) -> bool:
    """Whether Triton's loops run there: on a CUDA device, where triton is installed."""
    return device.type == "cuda" and find_spec("triton") is not None


def searches(backend: Backend) -> "TypeGuard[CompiledBackend]":
    """Whether it can look for active latents in rounded products, see `compiledencode.py`."""
    if not has_compiled(torch.device("cpu")):
        return False
    from interp.sae.kernels.compiledstep import CompiledBackend

    return isinstance(backend, CompiledBackend)


def default_backend(device: torch.device) -> Backend:
    """The fastest exact backend on a device: compiled where it can be, plain torch elsewhere."""
    if has_triton(device):
        return backends()["triton"]()
    return backends()["compiled"]() if has_compiled(device) else SparseBackend()


def rounding_backend(device: torch.device) -> Backend:
    """The backend whose products round their factors to bfloat16.

    Triton's own where it runs; elsewhere the dense reference, which rounds under torch.autocast.
    """
    return backends()["triton-bfloat16"]() if has_triton(device) else DenseBackend()
