"""Cutting long works into passages, and the tidying that every plain text gets."""

import re

LIMIT = 8000
"""Most UTF-8 bytes of a passage."""
HEADING = 20
"""What is this many times shorter than a passage stands alone only where it must."""

# Where a text may be cut, best first; what is matched stays with the piece before it.
_CUTS = (r"\n\n\n+", r"\n\n+", r"\n", r"(?<=[.!?;:。！？])\s+", r"\s+")
_START = re.compile(r"^\*\*\* ?START OF (THE|THIS) PROJECT GUTENBERG.*\*\*\*[ \t]*$", re.M | re.I)
_END = re.compile(
    r"^(\*\*\* ?END OF (THE|THIS) PROJECT GUTENBERG.*|End of (the |this )?Project Gutenberg.*)$",
    re.M | re.I,
)
_SMALL_PRINT = re.compile(r"^.*\*END\*? ?THE SMALL PRINT.*$", re.M | re.I)
_NOTICE = re.compile(r"<<THIS ELECTRONIC VERSION.*?>>", re.S | re.I)


def cut(text: str, limit: int = LIMIT) -> list[str]:
    """Cut a text into passages of at most ``limit`` UTF-8 bytes at the best boundaries there are.

    Between sections if that is enough, else between paragraphs, lines, sentences, words and at
    last characters. Nothing but white space at the cuts is lost.

    >>> cut("one two\\n\\nthree four", limit=12)
    ['one two', 'three four']
    """
    passages = (passage.strip("\n") for passage in _pack(text, limit, 0))
    return [passage.rstrip() for passage in passages if passage.strip()]


def _pack(text: str, limit: int, level: int) -> list[str]:
    """Pieces at one kind of boundary, joined again as far as the limit allows."""
    if len(text.encode()) <= limit:
        return [text]
    if level == len(_CUTS):
        return _split_characters(text, limit)
    packed: list[str] = []
    room = 0
    for piece in _pieces(text, _CUTS[level]):
        size = len(piece.encode())
        if packed and size <= room:
            packed[-1] += piece
            room -= size
            continue
        if packed and size > limit and len(packed[-1].encode()) <= limit // HEADING:
            piece = packed.pop() + piece  # a heading goes with what it is the heading of
        parts = _pack(piece, limit, level + 1)
        packed += parts
        room = limit - len(parts[-1].encode())
    return packed


def _pieces(text: str, boundary: str) -> list[str]:
    ends = [match.end() for match in re.finditer(boundary, text)]
    starts = [0, *ends]
    return [text[start:end] for start, end in zip(starts, [*ends, len(text)], strict=True)]


def _split_characters(text: str, limit: int) -> list[str]:
    size = max(limit // 4, 1)  # no character has more than four bytes
    return [text[start : start + size] for start in range(0, len(text), size)]


def tidy(text: str) -> str:
    """Unix line ends, no byte-order mark, no blanks at line ends, at most two blank lines."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    text = re.sub(r"[ \t]+$", "", text, flags=re.M)
    return re.sub(r"\n{4,}", "\n\n\n", text).strip("\n")


def strip_gutenberg(text: str) -> str:
    """The text without Project Gutenberg's header, licence and notices, where it has them."""
    for mark in (_START, _SMALL_PRINT):
        if match := mark.search(text):
            text = text[match.end() :]
    if match := _END.search(text):
        text = text[: match.start()]
    return _NOTICE.sub("", text)


def decode(data: bytes) -> str:
    """Text of a file of unknown age: UTF-8, else Latin-1, without the end mark of DOS."""
    data = data.rstrip(b"\x1a")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")
