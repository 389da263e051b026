"""The dictionary that a neuron is taken apart with, by name."""

from interp.errors import UnknownName
from interp.features.bases import DictionaryBasis
from interp.features.find import finished_dictionaries
from interp.features.table import UnitTable
from interp.sae import load_dictionary
from interp.sae.files import read_config
from interp.store import ActivationStore
from interp.workspace import Workspace


def dictionary_for(
    workspace: Workspace, store: ActivationStore, table: UnitTable, name: str | None = None
) -> DictionaryBasis:
    """A finished dictionary of a table's site; the first by name unless one is named.

    Raises:
        UnknownName: the site has no such dictionary, or none at all.
        FormatError: it cannot be read.
    """
    found = {
        each: path
        for each, path in finished_dictionaries(workspace, table.model, table.site).items()
        if not read_config(path).get("origin", {}).get("target")  # a transcoder writes elsewhere
    }
    wanted = name if name is not None else next(iter(found), "")
    if wanted not in found:
        remedy = f"`interp train {store.name} {table.site}` makes one."
        raise UnknownName(f"dictionary of {table.site}", wanted, found, remedy)
    return DictionaryBasis(load_dictionary(found[wanted]), wanted)
