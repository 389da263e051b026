"""Which documents are held out: whole works, the same ones whatever else the corpus holds."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from interp.corpus.document import Document
from interp.errors import ConfigError


def split_heldout(
    documents: Sequence[Document], fraction: float = 0.1, seed: int = 0
) -> Bool[np.ndarray, " documents"]:
    """Say of each document whether it is held out.

    Within each domain the titles are put in the order of a seeded hash, and the first
    ``round(fraction * titles)`` of them are held out: at least one of two or more, never all. So
    passages of one work never fall on both sides, and the choice depends on the titles alone,
    not on the number or the order of the documents.

    Args:
        documents: the corpus.
        fraction: share of titles to hold out in each domain; 0 holds out nothing.
        seed: chooses which.

    Raises:
        ConfigError: the fraction is not in [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ConfigError(f"held-out fraction {fraction} is not in [0, 1); give one such as 0.1")
    titles: dict[str, set[str]] = {}
    for document in documents:
        titles.setdefault(document.domain, set()).add(document.title)
    held: set[tuple[str, str]] = set()
    for domain, group in titles.items():
        if fraction == 0 or len(group) < 2:
            continue
        count = min(max(round(fraction * len(group)), 1), len(group) - 1)
        ordered = sorted(group, key=lambda title: _rank(seed, title))
        held.update((domain, title) for title in ordered[:count])
    return np.array([(each.domain, each.title) in held for each in documents], dtype=np.bool_)


def _rank(seed: int, title: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{title}".encode()).digest()
