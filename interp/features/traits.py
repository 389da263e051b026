"""What rules can speak about: traits of a row, each with its words.

A trait is either one of many values (the token, the token before, the pair of both, the language,
the domain) or a class that a row is in or not (kinds of characters, the place in the model's
window).
"""

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int64

from interp.features.labels import Labels
from interp.store import ActivationStore

POSITIONS = (1, 4, 16)
"""Rules on position say: among the first so many tokens of a window."""
_SCRIPTS = (
    "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "BENGALI", "TAMIL", "TELUGU", "THAI",
    "HANGUL", "HIRAGANA", "KATAKANA", "CJK",
)  # fmt: skip

_CLASSES: dict[str, Callable[[str], bool]] = {
    "a digit": lambda s: any(c.isdigit() for c in s),
    "punctuation only": lambda s: bool(s.strip()) and not any(c.isalnum() for c in s),
    "a line break": lambda s: "\n" in s,
    "white space only": lambda s: bool(s) and not s.strip(),
    "a capital first": lambda s: s.strip()[:1].isupper(),
    "capitals only": lambda s: len(s.strip()) > 1 and s.strip().isupper(),
    "the start of a word": lambda s: s[:1] == " " and s[1:2].isalpha(),
    "the inside of a word": lambda s: s[:1].isalpha(),
    "one letter": lambda s: len(s.strip()) == 1 and s.strip().isalpha(),
    "part of a character": lambda s: "\ufffd" in s,
    "an accented letter": lambda s: any(
        c.isalpha() and unicodedata.decomposition(c) and "LATIN" in unicodedata.name(c, "")
        for c in s
    ),
    **{
        f"{script.capitalize() if script != 'CJK' else script} script": (
            lambda s, script=script: any(unicodedata.name(c, "").startswith(script) for c in s)
        )
        for script in _SCRIPTS
    },
}


@dataclass(frozen=True)
class Trait:
    """A trait of many values."""

    name: str
    codes: Int64[np.ndarray, " rows"]
    words: Callable[[int], str]
    """A value as text."""
    most: int
    """Values a rule may list."""


class Traits:
    """The traits of a store's rows."""

    def __init__(self, store: ActivationStore, labels: Labels) -> None:
        """Number everything rules can mention."""
        self._store = store
        self._tokens = store.tokens.astype(np.int64)
        self._size = int(self._tokens.max()) + 1
        index = store.document_index
        before = np.full(store.rows, self._size, np.int64)  # nothing stands before a first token
        same = np.flatnonzero(index[1:] == index[:-1]) + 1
        before[same] = self._tokens[same - 1]
        names = labels.names
        self.many: Sequence[Trait] = [
            Trait("token", self._tokens, self._token, 8),
            Trait("after", before, self._token, 8),
            Trait("pair", before * (self._size + 1) + self._tokens, self._pair, 8),
            *(
                Trait(
                    each,
                    labels.of_document[each][index],
                    lambda code, each=each: names[each][code],
                    3,
                )
                for each in names
            ),
        ]
        first = int(store.positions.min())
        self._position = store.positions - first
        self.classes: list[str] = [
            *(
                f"token is {name}" if "script" not in name else f"token in {name}"
                for name in _CLASSES
            ),
            *(
                f"first {n} tokens of a window" if n > 1 else "first token of a window"
                for n in POSITIONS
            ),
        ]

    def member(self, rows: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, "n classes"]:
        """Which classes rows are in."""
        place = self._position[rows][:, None] < np.array(POSITIONS)
        return np.concatenate([self._of_token[self._tokens[rows]], place], axis=1)

    @cached_property
    def _of_token(self) -> Bool[np.ndarray, "tokens classes"]:
        out = np.zeros((self._size, len(_CLASSES)), dtype=bool)
        if self._store.manifest.vocabulary:
            for token in np.unique(self._tokens):
                text = self._store.vocabulary.text([int(token)])
                out[token] = [holds(text) for holds in _CLASSES.values()]
        return out

    def _token(self, code: int) -> str:
        if code == self._size:
            return "the beginning"
        if not self._store.manifest.vocabulary:
            return str(code)
        text = self._store.vocabulary.text([code])
        return f"“{text.translate(_SHOWN)}”"

    def _pair(self, code: int) -> str:
        return f"{self._token(code // (self._size + 1))}{self._token(code % (self._size + 1))}"


_SHOWN = str.maketrans({"\n": "↵", "\t": "⇥", "\r": "␍"})
