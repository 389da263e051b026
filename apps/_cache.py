"""Every cache of the app. Keys hold paths with their times, so a file made again is read again.

Streamlit leaves arguments whose names begin with ``_`` out of a key: no stamp may be called so.

Shared objects (tables, stores, models) are resources: one copy for all sessions, read only. What
a session may change is copied by `st.cache_data`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from apps import inventory
from apps import notes as kept
from apps.listing import Listing
from apps.runs import Run, read_run
from interp.cli.verify import model_source
from interp.features.explain.files import Explained, explanations_path, read_explanations
from interp.features.table import UnitTable
from interp.store import ActivationStore
from interp.workspace import Workspace

if TYPE_CHECKING:
    from apps.causes import Asked, Trial
    from apps.matching import Matching
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
def _tables(workspace: Workspace, key: Stamp) -> list[inventory.Item]:
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


def dictionaries(workspace: Workspace) -> list[inventory.Item]:
    """The workspace's dictionaries; looked at again when one appears, changes or goes."""
    folders = (workspace.root / "dictionaries").glob("*/*/*")
    names = ("", "config.json", "metrics.json")
    return _dictionaries(
        workspace, stamp([path / name for path in sorted(folders) for name in names])
    )


@st.cache_data(max_entries=4, show_spinner=False)
def _dictionaries(workspace: Workspace, key: Stamp) -> list[inventory.Item]:
    return inventory.dictionaries(workspace)


def lab(workspace: Workspace) -> list[inventory.Item]:
    """The workspace's reproduced results; looked at again when one appears or changes."""
    folders = sorted((workspace.root / "lab").glob("*"))
    return _lab(workspace, stamp([path / name for path in folders for name in ("", "result.json")]))


@st.cache_data(max_entries=4, show_spinner=False)
def _lab(workspace: Workspace, key: Stamp) -> list[inventory.Item]:
    return inventory.lab(workspace)


def runs(workspace: Workspace) -> list[Run]:
    """The trainings of a workspace; only finished ones are kept, the others grow."""
    return [
        read_run(item.path)
        if item.state == "unfinished"
        else _run(stamp([item.path / "config.json", item.path / "log.jsonl"]), item.path)
        for item in dictionaries(workspace)
    ]


@st.cache_resource(max_entries=256, show_spinner=False)
def _run(key: Stamp, path: Path) -> Run:
    return read_run(path)


def matching(paths: tuple[Path, Path], *, by_contexts: bool) -> "Matching":
    """Two bases matched: by the tables of their units, or by the folders of two dictionaries."""
    files = paths if by_contexts else [path / "weights.safetensors" for path in paths]
    return _matching(stamp(files), paths, by_contexts)


@st.cache_resource(max_entries=8, show_spinner="Matching the units …")
def _matching(key: Stamp, paths: tuple[Path, Path], by_contexts: bool) -> "Matching":
    from apps.matching import directions, match, match_contexts  # scipy, which Home does without

    if by_contexts:
        return match_contexts(table(paths[0]), table(paths[1]))
    return match(directions(paths[0]), directions(paths[1]))


def notes(listed: Listing, workspace: Workspace) -> dict[str, kept.Note]:
    """The reader's notes on a site's units, by address."""
    found: dict[str, kept.Note] = {}
    for basis in listed.bases:
        path = kept.path_of(workspace.units(listed.model, listed.site, basis))
        stem = f"{listed.model}/{listed.site}/{basis}"
        found |= {f"{stem}/{unit}": note for unit, note in noted(path).items()}
    return found


def all_notes(workspace: Workspace) -> dict[str, kept.Note]:
    """Every note of a workspace by address, the latest first."""
    found: dict[str, kept.Note] = {}
    for path in sorted((workspace.root / "units").glob(f"*/*/*{kept.SUFFIX}")):
        stem = "/".join(path.parts[-3:]).removesuffix(kept.SUFFIX)
        found |= {f"{stem}/{unit}": note for unit, note in noted(path).items()}
    return dict(sorted(found.items(), key=lambda pair: pair[1].time, reverse=True))


def noted(path: Path) -> dict[int, kept.Note]:
    """The last note of each unit in a file of notes."""
    return _notes(stamp([path]), path)


@st.cache_data(max_entries=32, show_spinner=False)
def _notes(key: Stamp, path: Path) -> dict[int, kept.Note]:
    return kept.latest(path)


def explanations(table: UnitTable) -> dict[int, list[Explained]]:
    """What language models said of a table's units."""
    return _explanations(stamp([table.path, explanations_path(table.path)]), table.path)


@st.cache_data(max_entries=8, show_spinner=False)
def _explanations(key: Stamp, path: Path) -> dict[int, list[Explained]]:
    return read_explanations(table(path))


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
    return read(_model(model_source(opened.manifest), _workspace), opened, first.site, bases, text)


@st.cache_resource(max_entries=1, show_spinner="Loading the model …")
def _model(name: str, _workspace: Workspace) -> "LoadedModel":
    from interp.models import load_model

    return load_model(name, workspace=_workspace)


@st.cache_resource(max_entries=8, show_spinner="Loading the basis …")
def _basis(key: Stamp, _workspace: Workspace, path: Path) -> "Basis":
    from apps.reading import basis_of

    opened = table(path)
    return basis_of(opened, store(_workspace.store(opened.store)), _workspace)


def trial(workspace: Workspace, opened: UnitTable, asked: "Asked") -> "Trial":
    """A unit changed on a text; the model runs once for each question."""
    weights = workspace.dictionary(opened.model, opened.site, opened.basis) / "weights.safetensors"
    return _trial(stamp([opened.path, weights]), workspace, opened.path, asked)


@st.cache_resource(max_entries=32, show_spinner="Running the model …")
def _trial(key: Stamp, _workspace: Workspace, path: Path, asked: "Asked") -> "Trial":
    from apps.causes import run

    opened = table(path)
    captured = store(_workspace.store(opened.store))
    basis = _basis(stamp([path]), _workspace, path)
    return run(_model(model_source(captured.manifest), _workspace), captured, basis, asked)
