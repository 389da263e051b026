"""From any model to a validated map of its features, on one's own machine.

    import interp
    model = interp.load_model("smollm2-135m")
    store = interp.capture(model, ["resid_post.9"], corpus="library", tokens=1_000_000)
    sae = interp.train(store, "resid_post.9", interp.BatchTopK(k=32, expansion=8), seed=0)
    units = interp.extract([interp.neurons(store, "resid_post.9"), sae], store)
    units.sort("monosemanticity").head(20)

Names are loaded on first use (PEP 562): importing the package costs milliseconds, not torch.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

# Heeded if it is set before torch is loaded. Else torch's threads wait for their next work by
# spinning, and our own and everybody else's on the machine wait for them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from interp.capture import CaptureConfig, capture
    from interp.corpus import load_corpus
    from interp.errors import InterpError
    from interp.evaluate import downstream
    from interp.features import UnitTable, extract, neurons, random_directions
    from interp.models import load_model, wrap_module
    from interp.sae import (
        BatchTopK,
        TopK,
        TrainConfig,
        load_dictionary,
        reconstruction,
        train,
        train_many,
    )
    from interp.store import ActivationStore
    from interp.workspace import Workspace

_HOME = {
    "ActivationStore": "interp.store",
    "BatchTopK": "interp.sae",
    "CaptureConfig": "interp.capture",
    "InterpError": "interp.errors",
    "TopK": "interp.sae",
    "TrainConfig": "interp.sae",
    "UnitTable": "interp.features",
    "Workspace": "interp.workspace",
    "capture": "interp.capture",
    "downstream": "interp.evaluate",
    "extract": "interp.features",
    "load_corpus": "interp.corpus",
    "load_dictionary": "interp.sae",
    "load_model": "interp.models",
    "neurons": "interp.features",
    "random_directions": "interp.features",
    "reconstruction": "interp.sae",
    "train": "interp.sae",
    "train_many": "interp.sae",
    "wrap_module": "interp.models",
}

__all__ = [
    "ActivationStore",
    "BatchTopK",
    "CaptureConfig",
    "InterpError",
    "TopK",
    "TrainConfig",
    "UnitTable",
    "Workspace",
    "capture",
    "downstream",
    "extract",
    "load_corpus",
    "load_dictionary",
    "load_model",
    "neurons",
    "random_directions",
    "reconstruction",
    "train",
    "train_many",
    "wrap_module",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'interp' has no attribute {name!r}; it has {__all__}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
