"""Every cache of the app. Keys hold paths with their times, so a file made again is read again.

Shared objects (tables, stores, models) are resources: one copy for all sessions, read only. What
a session may change is copied by `st.cache_data`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from apps import inventory
from apps.listing import Listing
from interp.features.table import UnitTable
from interp.store import ActivationStore
from interp.workspace import Workspace

if TYPE_CHECKING:
    from apps.reading import Reading
    from interp.features import Basis
    from interp.models import LoadedModel

Stamp = tuple[tuple[str, int, int], ...]


def stamp(paths: Sequence[Path]) -> Stamp:
    """Path, time and size of each file that exists: what a cache entry is valid for."""
    found: list[tuple[str, int, int]] = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            continue
        found.append((str(path), stat.st_mtime_ns, stat.st_size))
    return tuple(found)


def tables(workspace: Workspace) -> list[inventory.Item]:
    """The workspace's unit tables; looked at again when a file appears, changes or goes."""
    return _tables(workspace, stamp(sorted((workspace.root / "units").glob("*/*/*"))))


@st.cache_data(max_entries=4, show_spinner=False)
def _tables(workspace: Workspace, _: Stamp) -> list[inventory.Item]:
    return inventory.tables(workspace)


def table(path: Path) -> UnitTable:
    """An opened unit table."""
    return _table(stamp([path]), path)


@st.cache_resource(max_entries=32, show_spinner=False)
def _table(key: Stamp, path: Path) -> UnitTable:
    return UnitTable.open(path)


def store(path: Path) -> ActivationStore:
    """An opened activation store; its token column is read once."""
    return _store(stamp([path / "manifest.json"]), path)


@st.cache_resource(max_entries=4, show_spinner=False)
def _store(key: Stamp, path: Path) -> ActivationStore:
    return ActivationStore.open(path)


def listing(paths: Sequence[Path]) -> Listing:
    """The units of several tables of one site, as columns."""
    return _listing(stamp(paths), tuple(paths))


@st.cache_resource(max_entries=4, show_spinner=False)
def _listing(key: Stamp, paths: tuple[Path, ...]) -> Listing:
    return Listing.of([table(path) for path in paths])


def reading(workspace: Workspace, tables: Sequence[UnitTable], text: str) -> "Reading":
    """What the units of some tables of one site do on a text. Only this needs torch."""
    paths = tuple(table.path for table in tables)
    weights = [
        workspace.dictionary(path.parts[-3], path.parts[-2], path.stem) / "weights.safetensors"
        for path in paths
    ]
    return _reading(stamp([*paths, *weights]), workspace, paths, text)


@st.cache_resource(max_entries=16, show_spinner="Reading …")
def _reading(key: Stamp, _workspace: Workspace, paths: tuple[Path, ...], text: str) -> "Reading":
    from apps.reading import read

    first = table(paths[0])
    opened = store(_workspace.store(first.store))
    bases = [_basis(stamp([path]), _workspace, path) for path in paths]
    return read(_model(opened.model, _workspace), opened, first.site, bases, text)


@st.cache_resource(max_entries=1, show_spinner="Loading the model …")
def _model(name: str, _workspace: Workspace) -> "LoadedModel":
    from interp.models import load_model

    return load_model(name, workspace=_workspace)


@st.cache_resource(max_entries=8, show_spinner="Loading the basis …")
def _basis(key: Stamp, _workspace: Workspace, path: Path) -> "Basis":
    from apps.reading import basis_of

    opened = table(path)
    return basis_of(opened, store(_workspace.store(opened.store)), _workspace)
