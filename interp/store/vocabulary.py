"""Token ids to text, without a tokenizer: a table of each token's bytes.

Byte-level tokenizers split a character over several tokens, so text is joined as bytes first and
decoded once.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from interp.errors import FormatError
from interp.files import read_json, write_text


class Vocabulary:
    """The bytes of every token of one tokenizer."""

    def __init__(self, tokens: Sequence[bytes], specials: Iterable[int] = ()) -> None:
        """Take the tokens' bytes in order of id, and the ids that stand for no text."""
        self._tokens = list(tokens)
        self.specials = frozenset(specials)

    def __len__(self) -> int:
        return len(self._tokens)

    def bytes(self, token: int) -> bytes:
        """The bytes of one token; a special token's are its literal name.

        Raises:
            FormatError: the id lies outside the vocabulary.
        """
        if not 0 <= token < len(self._tokens):
            raise FormatError(
                f"token id {token} is outside the vocabulary of {len(self._tokens)} tokens; the "
                "store and its vocabulary do not belong together, capture it again"
            )
        return self._tokens[token]

    def text(self, tokens: Iterable[int]) -> str:
        """The text of consecutive tokens; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(self.bytes(int(token)) for token in tokens).decode(errors="replace")

    def pieces(self, tokens: Iterable[int]) -> list[str]:
        """The text of each token; a character split over tokens goes whole to the first of them.

        >>> Vocabulary([b"caf", bytes([0xC3]), bytes([0xA9])]).pieces([0, 1, 2])
        ['caf', 'é', '']
        """
        parts = [self.bytes(int(token)) for token in tokens]
        owner = [index for index, part in enumerate(parts) for _ in part]
        pieces = [""] * len(parts)
        data, start = b"".join(parts), 0
        while start < len(data):
            width = _character(data, start)
            pieces[owner[start]] += data[start : start + width].decode(errors="replace")
            start += width
        return pieces

    def write(self, path: Path) -> None:
        """Write a JSON file in which each character of a token stands for one byte."""
        tokens = [token.decode("latin-1") for token in self._tokens]
        value = {"specials": sorted(self.specials), "tokens": tokens}
        write_text(path, json.dumps(value, ensure_ascii=True) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Vocabulary":
        """Read what `write` wrote.

        Raises:
            FormatError: the file is missing or malformed.
        """
        value = read_json(path)
        try:
            tokens = [str(token).encode("latin-1") for token in value["tokens"]]
            return cls(tokens, map(int, value["specials"]))
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"{path} is no vocabulary ({error!r}); capture again") from error


def _character(data: bytes, start: int) -> int:
    """Bytes of the UTF-8 character at ``start``, or of what one U+FFFD stands for there."""
    first = data[start]
    width = 1 if first < 0x80 else 2 if 0xC2 <= first < 0xE0 else 3 if 0xE0 <= first < 0xF0 else 4
    try:
        data[start : start + width].decode()
    except UnicodeDecodeError as error:
        return error.end - error.start
    return width
