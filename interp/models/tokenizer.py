"""A tokenizer as this project needs it: text to ids without specials, and ids to bytes.

Three families write bytes differently into their vocabulary: byte-level BPE maps each byte to a
printable character (GPT-2's table), SentencePiece writes a space as ▁ and a stray byte as <0x0A>,
WordPiece marks a continuation with ##.
"""

import re
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers.models import WordPiece

from interp.errors import FormatError

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class Tokenizer:
    """Wraps a `tokenizers` tokenizer, the fast kind that every current model has."""

    def __init__(self, backend: Backend, *, bos: int | None) -> None:
        """Wrap ``backend``; ``bos`` is the id that begins every window, if the model wants one."""
        self._backend, self.bos = backend, bos
        self._backend.no_truncation()
        self._backend.no_padding()
        added = self._backend.get_added_tokens_decoder()
        self.specials = frozenset(id for id, token in added.items() if token.special)

    @classmethod
    def of_transformers(cls, tokenizer: Any, *, bos: int | None) -> "Tokenizer":
        """Wrap a transformers tokenizer; ``bos`` as of the constructor.

        Raises:
            FormatError: it is not of the fast kind.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise FormatError(
                f"the tokenizer {type(tokenizer).__name__} has no fast version; save the model "
                "with a fast tokenizer (tokenizer.json)"
            )
        return cls(Backend.from_str(backend.to_str()), bos=bos)

    @classmethod
    def of_file(cls, path: Path, *, bos: int | None) -> "Tokenizer":
        """Read a ``tokenizer.json``.

        Raises:
            FormatError: the file is missing or malformed.
        """
        try:
            return cls(Backend.from_str(path.read_text(encoding="utf-8")), bos=bos)
        except Exception as error:  # tokenizers raises bare Exception
            raise FormatError(f"{path} is no readable tokenizer ({error})") from error

    def encode(self, text: str) -> list[int]:
        """Ids of a text, with no BOS nor any other special token added."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """Text of ids, special tokens included."""
        return self._backend.decode(ids, skip_special_tokens=False)

    def vocabulary(self) -> list[bytes]:
        """The bytes of every id; a special token's are its name, an unused id's are empty."""
        table = self._backend.get_vocab(with_added_tokens=True)
        added = self._backend.get_added_tokens_decoder()
        pieces = [""] * (max(table.values(), default=-1) + 1)
        for piece, id in table.items():
            pieces[id] = piece
        words = [piece for id, piece in enumerate(pieces) if id not in added]
        spell = _wordpiece if isinstance(self._backend.model, WordPiece) else _speller(words)
        return [
            added[id].content.encode() if id in added else spell(piece)
            for id, piece in enumerate(pieces)
        ]


def _speller(words: list[str]) -> Any:
    if any("▁" in word for word in words):
        return _sentencepiece
    table = byte_table()
    if all(character in table for word in words for character in word):
        return lambda word: bytes(table[character] for character in word)
    return _wordpiece


def _sentencepiece(word: str) -> bytes:
    match = _BYTE.fullmatch(word)
    return bytes([int(match[1], 16)]) if match else word.replace("▁", " ").encode()


def _wordpiece(word: str) -> bytes:
    return word[2:].encode() if word.startswith("##") else b" " + word.encode()


@cache
def byte_table() -> dict[str, int]:
    """GPT-2's printable character for each byte, reversed (Radford et al. 2019, encoder.py)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + index): byte for index, byte in enumerate(others)}
