"""What a row of a store reads: its token's text, or its position where the store has no text.

Activations that were imported may come without a vocabulary, or without any token ids at all.
Everything of such a store can be browsed; positions within its runs stand where words would.
"""

from collections.abc import Sequence

import numpy as np

from interp.store import ActivationStore

POSITIONS = "No token text in this store: positions within its runs stand where words would."
UNKNOWN = (
    "This store was imported without token ids. Activations, densities and histograms stand; "
    "scores, rules and senses compare tokens and contexts, so here they mean nothing."
)


def has_text(store: ActivationStore) -> bool:
    """Whether token ids of a store can be read as text."""
    return bool(store.manifest.vocabulary)


def has_tokens(store: ActivationStore) -> bool:
    """Whether a store knows its token ids; an import without them holds zeros."""
    return has_text(store) or bool(store.tokens.any())


def pieces(store: ActivationStore, rows: Sequence[int] | np.ndarray) -> list[str]:
    """What consecutive rows read, one text a row."""
    if has_text(store):
        return store.vocabulary.pieces(store.tokens[rows].tolist())
    return [f" {position}" for position in store.positions[rows]]


def word(store: ActivationStore, token: int) -> str:
    """What one token id reads."""
    return store.vocabulary.text([token]) if has_text(store) else f"#{token}"


def specials(store: ActivationStore) -> frozenset[int]:
    """The ids that stand for no text."""
    return store.vocabulary.specials if has_text(store) else frozenset()
