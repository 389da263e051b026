"""A labelled piece of text, and a corpus of them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from interp.errors import DataError, FormatError
from interp.files import replacing


@dataclass(frozen=True, kw_only=True)
class Document:
    """One passage of text with its labels."""

    text: str
    """The text itself, not empty."""
    title: str
    """The whole work it is from; train and held-out texts are told apart by it."""
    domain: str
    """Kind of text, such as drama or code."""
    language: str
    """Language code such as ``en``, ``pt-BR`` or ``py`` for Python; ``und`` if unknown."""
    licence: str
    """Terms of the text, as an SPDX expression where there is one; empty if unknown."""
    topic: str = ""
    """A finer label, such as the book of a poem or the theme of a dialogue."""


_LABELS = tuple(each.name for each in fields(Document) if each.name != "text")


@dataclass(frozen=True)
class Corpus:
    """Documents under one name."""

    name: str
    """Name of a packaged corpus, or of the file, folder or data set."""
    digest: str
    """SHA-256 of what it was read from."""
    _documents: Sequence[Document] = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self._documents:
            raise DataError(f"corpus {self.name} has no text; give a file that has some")

    def documents(self) -> Sequence[Document]:
        """Every document, always in the same order."""
        return self._documents

    def summary(self) -> list[dict[str, Any]]:
        """Per domain, by name: documents, works, bytes of UTF-8, languages and licences."""
        by_domain: dict[str, list[Document]] = {}
        for document in self._documents:
            by_domain.setdefault(document.domain, []).append(document)
        return [
            {
                "domain": domain,
                "documents": len(group),
                "works": len({each.title for each in group}),
                "bytes": sum(len(each.text.encode()) for each in group),
                "languages": len({each.language for each in group}),
                "licence": ", ".join(sorted({each.licence for each in group} - {""})),
            }
            for domain, group in sorted(by_domain.items())
        ]


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    """Write documents as JSON lines, atomically."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        for document in documents:
            file.write(json.dumps(asdict(document), ensure_ascii=False) + "\n")


def read_documents(path: Path, defaults: Mapping[str, str] | None = None) -> list[Document]:
    """Read JSON lines, each an object with ``text`` and any of the labels.

    Args:
        path: the file; empty lines are passed over, and lines whose text is blank.
        defaults: labels for lines that lack them; a line without title is a work of its own, named
            after the default title (the file's name if there is none) and its number.

    Raises:
        FormatError: a line is no JSON object, or a field of it is no string.
    """
    labels = {"title": path.name, **(defaults or {})}
    documents: list[Document] = []
    with path.open("rb") as file:  # as bytes, only "\n" ends a line: U+2028 may stand in a text
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (ValueError, RecursionError) as error:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                raise FormatError(
                    f"{path}, line {number} is no JSON in UTF-8 ({reason}); write one object with "
                    "a text field on each line"
                ) from error
            title = f"{labels['title']}, line {number}"
            document = document_of(row, f"{path}, line {number}", {**labels, "title": title})
            if document.text.strip():
                documents.append(document)
    return documents


def document_of(row: Any, where: str, defaults: Mapping[str, str]) -> Document:
    """A document out of a record with ``text`` and any of the labels.

    Raises:
        FormatError: the record has no text, or a label is no string.
    """
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise FormatError(f"{where} holds no object with a text field; give each record one")
    labels = {"title": where, "domain": "text", "language": "und", "licence": "", "topic": ""}
    labels |= defaults
    for name in _LABELS:
        value = row.get(name)
        if value is not None and not isinstance(value, str):
            raise FormatError(f"{where} has a {name} that is no string; quote it")
        labels[name] = value or labels[name]
    return Document(text=row["text"], **labels)
