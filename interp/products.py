"""Which of torch's two matrix libraries multiplies float32 on this processor, MKL or oneDNN.

torch takes MKL unless float32 products are allowed to round their factors ("medium"). On AMD's
processors MKL takes twice as long as oneDNN; on Intel's both take as long, and on those that round
in hardware (AMX) the permission really means rounding. So:

1. Unless the processor is AMD's, torch's own choice stays. Its maker decides and no stopwatch: two
   processes that measured would now and then differ, and with them the last digits.
2. With the permission the three products of a training step (x Wᵀ, z W, zᵀ x) are compared with
   double precision. If they are not as exact as single precision is, torch's own choice stays.

``INTERP_PRODUCTS`` set to ``mkl`` or ``onednn`` decides instead. `seconds` measures both.
"""

import os
import platform
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from interp.errors import ConfigError

SETTING = "INTERP_PRODUCTS"
LIBRARIES = {"mkl": "none", "onednn": "bf16"}
"""The permission to round that makes torch take each; the processor decides what it means."""
AMD = "AuthenticAMD"
ROUNDS = 5
EXACT = 2e-6
"""Greatest relative error (Frobenius) of a product in single precision, some 3e-7 here."""

_lock = threading.Lock()
_choosing = threading.Lock()
_inside = 0
_before = "none"


@contextmanager
def faster_products() -> Generator[None, None, None]:
    """Within the block torch multiplies float32 on a CPU by the faster library, for all threads.

    May be nested, and entered by several threads. Products on a GPU stay as they are, and so does
    what the user has permitted torch to do (`torch.set_float32_matmul_precision`).

    Raises:
        ConfigError: ``INTERP_PRODUCTS`` names no library.
    """
    _enter(LIBRARIES[library()])
    try:
        yield
    finally:
        _leave()


def _enter(permission: str) -> None:
    global _inside, _before
    setting = _setting()
    with _lock:
        if _inside == 0:
            _before = setting.fp32_precision
            if _before == "none":
                setting.fp32_precision = permission
        _inside += 1


def _leave() -> None:
    global _inside
    with _lock:
        _inside -= 1
        if _inside == 0:
            _setting().fp32_precision = _before


def library() -> str:
    """The library that `faster_products` takes: ``mkl`` (torch's own choice) or ``onednn``.

    Raises:
        ConfigError: ``INTERP_PRODUCTS`` names no library.
    """
    asked = os.environ.get(SETTING, "").lower()
    if asked and asked not in LIBRARIES:
        raise ConfigError(f"{SETTING}={asked} names no library; known: {', '.join(LIBRARIES)}")
    with _choosing:
        return asked or _chosen()


@cache
def _chosen() -> str:
    """The faster one here, if it computes in single precision."""
    if not torch.backends.mkldnn.is_available() or AMD not in maker():
        return "mkl"
    with permitted("onednn"):
        return "onednn" if error() <= EXACT else "mkl"


def maker() -> str:
    """What names the processor's maker, as far as the system tells."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return os.environ.get("PROCESSOR_IDENTIFIER", platform.processor())
    return next((line for line in told.splitlines() if line.startswith("vendor_id")), "")


@contextmanager
def permitted(name: str) -> Generator[None, None, None]:
    """Within the block products are one library's, whatever it computes in; for measuring it."""
    setting = _setting()
    with _lock:
        before = setting.fp32_precision
        setting.fp32_precision = LIBRARIES[name]
        try:
            yield
        finally:
            setting.fp32_precision = before


def error() -> float:
    """Greatest relative error (Frobenius) of a step's products, as torch makes them now."""
    x, z, weight = _factors()
    worst = 0.0
    for left, right in ((x, weight.T), (z, weight), (z.T, x)):
        exact = left.double() @ right.double()
        worst = max(worst, float((left @ right - exact).norm() / exact.norm()))
    return worst


def seconds() -> dict[str, float]:
    """What x Wᵀ takes in each library, the fastest of some rounds in turns."""
    x, _, weight = _factors()
    taken = dict.fromkeys(LIBRARIES, float("inf"))
    for _ in range(ROUNDS):
        for name in LIBRARIES:
            with permitted(name):
                start = time.perf_counter()
                torch.mm(x, weight.T)
                taken[name] = min(taken[name], time.perf_counter() - start)
    return taken


def _setting() -> Any:
    return cast(Any, torch.backends.mkldnn).matmul  # torch's stubs do not know it


def _factors() -> tuple[Tensor, Tensor, Tensor]:
    """x [256, 384], z [256, 1024] and W [1024, 384], the same each time."""
    draw = torch.Generator().manual_seed(1)  # no seed of the user's is touched
    x, z, weight = (
        torch.randn(n, d, generator=draw) for n, d in ((256, 384), (256, 1024), (1024, 384))
    )
    return x, z, weight
