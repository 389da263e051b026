"""Bases by name: which ones a workspace has for a site, and under which name it has one."""

from collections.abc import Sequence
from pathlib import Path

from interp.errors import FormatError, UnknownName
from interp.features.bases import Basis, DictionaryBasis, neurons, random_directions
from interp.features.fitted_files import fitted_bases, load_basis
from interp.sae import Dictionary, load_dictionary
from interp.sae.files import WEIGHTS, read_config
from interp.store import ActivationStore
from interp.workspace import Workspace


def find_bases(
    store: ActivationStore,
    site: str,
    names: Sequence[str] | None,
    workspace: Workspace,
    seed: int = 0,
) -> list[Basis]:
    """Bases of a site by name.

    Args:
        store: whose activations they read.
        site: short or canonical name.
        names: ``neurons``, ``random``, names of dictionaries and fitted bases; None means neurons,
            random and every finished dictionary and fitted basis of this model and site.
        workspace: where the dictionaries and fitted bases are.
        seed: of the random directions.

    Raises:
        UnknownName: the store has no such site, or a name is none of these.
        FormatError: a dictionary or fitted basis asked for cannot be read.
    """
    place = store.site(site)
    found = finished_dictionaries(workspace, store.model, place.name)
    fitted = fitted_bases(workspace, store.model, place.name)
    wanted = ["neurons", "random", *found, *fitted] if names is None else list(dict.fromkeys(names))
    bases: list[Basis] = []
    for name in wanted:
        if name == "neurons":
            bases.append(neurons(store, place.name))
        elif name == "random":
            bases.append(random_directions(store, place.name, seed=seed))
        elif name in found:
            bases.append(DictionaryBasis(load_dictionary(found[name]), name))
        elif name in fitted:
            bases.append(load_basis(fitted[name]))
        else:
            remedy = (
                f"`interp train {store.name} {place.name}` makes a dictionary, `interp fit` a "
                "classical baseline."
            )
            raise UnknownName("basis", name, ["neurons", "random", *found, *fitted], remedy)
    return bases


def finished_dictionaries(workspace: Workspace, model: str, site: str) -> dict[str, Path]:
    """The finished dictionaries of a site by name."""
    folder = workspace.dictionary(model, site, "x").parent
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*")):
        try:
            if read_config(path).get("state") == "finished" and (path / WEIGHTS).is_file():
                found[path.name] = path
        except FormatError:
            continue
    return found


def finished_dictionary(dictionary: Dictionary, workspace: Workspace) -> str | None:
    """The folder name under which a workspace holds this very dictionary, or None."""
    origin, wanted = dictionary.origin, DictionaryBasis(dictionary).fingerprint
    label = dictionary.config.label(dictionary.d_in)
    for name, path in finished_dictionaries(workspace, origin.model, origin.site).items():
        if read_config(path).get("kind") != dictionary.kind or not name.startswith(label):
            continue
        if DictionaryBasis(load_dictionary(path), name).fingerprint == wanted:
            return name
    return None
