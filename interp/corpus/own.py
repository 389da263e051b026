"""A user's own texts: one file of text, JSON lines or Parquet, or a folder of them."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from interp.corpus.document import Corpus, Document, document_of, read_documents
from interp.corpus.passages import cut, tidy
from interp.errors import ConfigError, DataError, FormatError, ResourceError
from interp.files import sha256


def read_own(path: Path) -> Corpus:
    """The corpus of a file or folder.

    A text file is one work, its domain the folder it lies in below the one given (the folder's own
    name where there is none). A record of a ``.jsonl`` or ``.parquet`` file is a work of its own
    unless it has a title. In a folder, hidden files and files that are no UTF-8 text are left out.

    Raises:
        FormatError: a file is not what its name says.
        DataError: there is no text in it.
        ResourceError: a file cannot be read.
        ConfigError: a Parquet file, and pyarrow is not installed.
    """
    path = path.resolve()
    try:
        if not path.is_dir():
            documents = list(_file(path, path.name, path.parent.name or "text", alone=True))
            return _corpus(path, path.stem, sha256(path), documents)
        documents = []
        digest = hashlib.sha256()
        for file in _files(path):
            inside = file.relative_to(path)
            domain = inside.parts[0] if len(inside.parts) > 1 else path.name or "text"
            documents += _file(file, inside.as_posix(), domain, alone=False)
            digest.update(f"{inside.as_posix()}\0{sha256(file)}\n".encode())
    except OSError as error:
        raise ResourceError(f"cannot read {error.filename}: {error.strerror}") from error
    return _corpus(path, path.name, digest.hexdigest(), documents)


def _corpus(path: Path, name: str, digest: str, documents: list[Document]) -> Corpus:
    if not documents:
        raise DataError(f"{path} has no text; give a file or folder that has some")
    return Corpus(name, digest, documents)


def _files(folder: Path) -> list[Path]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(
        (path for path in paths if not _hidden(path.relative_to(folder))),
        key=lambda path: path.relative_to(folder).as_posix(),
    )


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _file(path: Path, title: str, domain: str, *, alone: bool) -> Iterator[Document]:
    if path.suffix == ".jsonl":
        yield from cut_all(read_documents(path, {"title": title, "domain": domain}))
    elif path.suffix == ".parquet":
        yield from cut_all(_parquet(path, title, domain))
    else:
        text = _text(path)
        if text is None and alone:
            raise FormatError(
                f"{path} is no text in UTF-8; convert it, or give a .txt, .jsonl or .parquet file"
            )
        for passage in cut(tidy(text or "")):
            yield Document(text=passage, title=title, domain=domain, language="und", licence="")


def cut_all(documents: list[Document]) -> Iterator[Document]:
    """The documents, each cut into passages."""
    for document in documents:
        for passage in cut(document.text):
            yield replace(document, text=passage)


def _text(path: Path) -> str | None:
    """Text of a file; None if it has none."""
    data = path.read_bytes()
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _parquet(path: Path, title: str, domain: str) -> list[Document]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ConfigError(f"{path} needs pyarrow to be read; run: pip install pyarrow") from error
    try:
        table: Any = parquet.read_table(path)
        rows: list[Any] = table.to_pylist()
    except (pyarrow.ArrowException, ValueError) as error:
        raise FormatError(f"{path} is no readable Parquet file ({error})") from error
    if "text" not in table.column_names:
        raise DataError(f"{path} has no column text; rename the one that holds the text")
    return [
        document_of(
            row, f"{path}, row {number}", {"title": f"{title}, row {number}", "domain": domain}
        )
        for number, row in enumerate(rows)
        if row["text"]
    ]
