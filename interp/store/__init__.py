"""The activation store: HDF5 shards under one manifest. No torch.

`ActivationStore` reads a sealed store, `PairedStore` two of the same rows, `ShuffledBatches`
streams it for training, `StoreWriter` writes one, with a `StoreMember` in each further process,
`verify` checks one.
"""

from interp.store.activations import ActivationStore
from interp.store.member import StoreMember
from interp.store.paired import PairedStore
from interp.store.schema import Manifest, StoredDocument
from interp.store.shuffle import ShuffledBatches
from interp.store.site import Site
from interp.store.verify import verify
from interp.store.vocabulary import Vocabulary
from interp.store.writer import StoreWriter

__all__ = [
    "ActivationStore",
    "Manifest",
    "PairedStore",
    "ShuffledBatches",
    "Site",
    "StoreMember",
    "StoreWriter",
    "StoredDocument",
    "Vocabulary",
    "verify",
]
