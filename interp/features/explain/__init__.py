"""Explaining units by a language model. Optional: nothing here runs, or calls anyone, unasked.

An `Explainer` turns contexts of a unit into one line, and says of other contexts whether the line
fits them, so that it is judged as rules are: on documents it was not made from. `explain_units`
does both and writes `<basis>.explanations.json` beside the unit table; rules stay what they are.
Names load on first use (PEP 562), so that reading explanations needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.features.explain.config import ExplainConfig
    from interp.features.explain.detection import Detection
    from interp.features.explain.endpoint import Endpoint
    from interp.features.explain.explainer import Chat, ChatExplainer, Context, Explainer
    from interp.features.explain.files import Explained, read_explanations
    from interp.features.explain.local import LocalChat
    from interp.features.explain.run import explain_units

_HOME = {
    "Chat": "explainer",
    "ChatExplainer": "explainer",
    "Context": "explainer",
    "Detection": "detection",
    "Endpoint": "endpoint",
    "ExplainConfig": "config",
    "Explained": "files",
    "Explainer": "explainer",
    "LocalChat": "local",
    "explain_units": "run",
    "read_explanations": "files",
}

__all__ = [
    "Chat",
    "ChatExplainer",
    "Context",
    "Detection",
    "Endpoint",
    "ExplainConfig",
    "Explained",
    "Explainer",
    "LocalChat",
    "explain_units",
    "read_explanations",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'interp.features.explain' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"interp.features.explain.{_HOME[name]}"), name)
    globals()[name] = value
    return value
