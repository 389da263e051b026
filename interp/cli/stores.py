"""Stores as they are named on the command line."""

from typing import TYPE_CHECKING

from interp.cli.verify import store_path
from interp.workspace import Workspace

if TYPE_CHECKING:
    from interp.store import ActivationStore


def open_store(workspace: Workspace, name: str) -> "ActivationStore":
    """The store of that name or folder, or two joined by +.

    Raises:
        StoreError, FormatError: see `ActivationStore.open`.
        ConfigError, DataError: see `PairedStore`.
    """
    from interp.store import ActivationStore, PairedStore
    from interp.store.site import JOINT

    whole = store_path(workspace, name)
    joints = [at for at in range(1, len(name) - 1) if name[at] == JOINT]  # names may have some too
    for at in () if whole.is_dir() else joints:
        first, second = (store_path(workspace, part) for part in (name[:at], name[at + 1 :]))
        if first.is_dir() and second.is_dir():
            return PairedStore(ActivationStore.open(first), ActivationStore.open(second))
    return ActivationStore.open(whole)
