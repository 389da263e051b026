"""Capture: run a model over labelled text and keep its activations.

`capture` is the whole job; `CaptureConfig` its settings. `plan` decides which token stands in which
row before any compute; `shards` computes one shard of it.
"""

import sys
import types
from typing import Any

from interp.capture.config import CaptureConfig
from interp.capture.job import capture

__all__ = ["CaptureConfig", "capture"]


class _CallablePackage(types.ModuleType):
    """Makes ``interp.capture(...)`` the function although this package bears the same name.

    Importing any submodule binds the package to that name; called, it is the function.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return capture(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
