"""Characters as ids, and Shakespeare in them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int64

from interp.corpus import fetch_corpus, split_heldout
from interp.workspace import Workspace

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
"""Characters by id; all others are left out of texts."""
MASK = len(ALPHABET)
"""The id of the mask."""
_IDS = {character: id for id, character in enumerate(ALPHABET)}


def encode(text: str) -> Int64[np.ndarray, " characters"]:
    """Ids of the characters that are in the alphabet."""
    return np.array([_IDS[character] for character in text if character in _IDS], np.int64)


def decode(ids: Int[np.ndarray, " characters"] | list[int]) -> str:
    """The text of ids; the mask is shown as █."""
    return "".join((ALPHABET + "█")[int(id)] for id in ids)


@dataclass(frozen=True)
class Text:
    """What a model is trained on and judged by."""

    train: Int64[np.ndarray, " train"]
    heldout: Int64[np.ndarray, " heldout"]
    """Of other works than the training text."""


def shakespeare(characters: int | None = None) -> Text:
    """The packaged plays and poems, whole works held out.

    Args:
        characters: how many training characters at most, from the beginning; all by default.

    Raises:
        AssetError: the corpus is not there and cannot be fetched.
    """
    documents = fetch_corpus("shakespeare", Workspace.at()).documents()
    held = split_heldout(documents)
    parts = [
        "\n\n".join(d.text for d, out in zip(documents, held, strict=True) if out == wanted)
        for wanted in (False, True)
    ]
    train, heldout = map(encode, parts)
    return Text(train[:characters], heldout)
