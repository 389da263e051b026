"""Where everything a run writes lies: the workspace folder and the names inside it.

    <workspace>/assets/<name>/                              downloads, pinned by hash
    <workspace>/models/<name>/                              models fetched or trained here
    <workspace>/corpora/<name>/                             labelled documents
    <workspace>/stores/<store>/                             captured activations
    <workspace>/dictionaries/<model>/<site>/<name>/         trained dictionaries
    <workspace>/bases/<model>/<site>/<name>/                PCA, ICA and other fitted baselines
    <workspace>/units/<model>/<site>/<basis>.h5             unit tables
    <workspace>/units/<model>/<site>/<basis>.activations.hdf5   every activation, where asked for
    <workspace>/units/<model>/<site>/<basis>.explanations.json  what a language model said of units
    <workspace>/lab/<result>/                               published results, reproduced
    <workspace>/jobs/<id>/                                  jobs that the app started

Dictionaries and units mirror the address of a unit, ``model/site/basis/index``.
"""

import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from interp.errors import ConfigError

DEFAULT = "activations"
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+,=-]*")


@dataclass(frozen=True)
class Workspace:
    """One workspace folder; the paths it hands out always lie inside it."""

    root: Path

    @classmethod
    def at(cls, path: str | Path | None = None) -> "Workspace":
        """The given folder, else that of `working_in`, else ``$INTERP_WORKSPACE``, else
        ``activations`` here."""
        current = _current.get()
        if path is None and current is not None:
            return current
        return cls(Path(path or os.environ.get("INTERP_WORKSPACE") or DEFAULT).resolve())

    def asset(self, name: str) -> Path:
        """Folder of a download."""
        return self.root / "assets" / safe(name)

    def model(self, name: str) -> Path:
        """Folder of a model."""
        return self.root / "models" / safe(name)

    def corpus(self, name: str) -> Path:
        """Folder of a corpus."""
        return self.root / "corpora" / safe(name)

    def store(self, name: str) -> Path:
        """Folder of an activation store."""
        return self.root / "stores" / safe(name)

    def dictionary(self, model: str, site: str, name: str) -> Path:
        """Folder of a dictionary."""
        return self.root / "dictionaries" / safe(model) / safe(site) / safe(name)

    def basis(self, model: str, site: str, name: str) -> Path:
        """Folder of a fitted baseline."""
        return self.root / "bases" / safe(model) / safe(site) / safe(name)

    def units(self, model: str, site: str, basis: str) -> Path:
        """File of a unit table."""
        return self.root / "units" / safe(model) / safe(site) / f"{safe(basis)}.h5"

    def lab(self, result: str) -> Path:
        """Folder of a reproduced result."""
        return self.root / "lab" / safe(result)


_current: ContextVar[Workspace | None] = ContextVar("workspace", default=None)


@contextmanager
def working_in(workspace: Workspace) -> Generator[None, None, None]:
    """Within the context, this is the default workspace."""
    token = _current.set(workspace)
    try:
        yield
    finally:
        _current.reset(token)


def safe(name: str) -> str:
    """The name itself if it can be one folder name anywhere, with ``/`` written as ``+``.

    Raises:
        ConfigError: the name could leave its folder or is no portable file name.
    """
    flat = name.replace("/", "+")
    if not _SAFE.fullmatch(flat) or ".." in flat or len(flat) > 120:
        raise ConfigError(
            f"{name!r} cannot name a file here: use letters, digits and . _ @ + , = - only"
        )
    return flat
