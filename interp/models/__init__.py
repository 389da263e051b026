"""Models: one face for packaged, local, hub and toy transformers, with TransformerLens' hooks.

`load_model` loads one, `fetch_model` gets a packaged one, `known_models` lists them;
`interp.models.check.check_model` tests one. `wrap_module` does the same for any torch module.
"""

from interp.models.base import LoadedModel
from interp.models.module import WrappedModule, wrap_module
from interp.models.registry import fetch_model, known_models, load_model
from interp.models.tokenizer import Tokenizer
from interp.store.site import Site

__all__ = [
    "LoadedModel",
    "Site",
    "Tokenizer",
    "WrappedModule",
    "fetch_model",
    "known_models",
    "load_model",
    "wrap_module",
]
