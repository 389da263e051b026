"""The rows on which monosemanticity is measured, with their embeddings."""

from functools import cached_property

import numpy as np
from jaxtyping import Int64

from interp.features.config import ExtractConfig
from interp.features.embeddings import FIT_ROWS, ContextVectors, TokenVectors
from interp.features.monoscore import Shifts, scored_documents
from interp.store import ActivationStore


class Scoring:
    """Scored rows of one store; the same for every basis and site of it."""

    def __init__(self, store: ActivationStore, config: ExtractConfig) -> None:
        """Choose whole documents; nothing is learnt until `shifts` is asked for."""
        self._store, self._config = store, config
        sizes = np.array([document.rows for document in store.documents], dtype=np.int64)
        self._sizes = sizes
        self._rows = self._rows_of(scored_documents(sizes, config.score_rows, config.seed))
        self.rows: Int64[np.ndarray, " n"] = self._rows[~store.sinks[self._rows]]

    @cached_property
    def shifts(self) -> Shifts:
        """Embeddings of the scored rows and how they are shifted."""
        store = self._store
        document = store.document_index[self._rows]
        embeddings = self._vectors.contexts(store.tokens[self._rows], document)
        keep = ~store.sinks[self._rows]
        return Shifts(
            embeddings[keep],
            document[keep].astype(np.int64),
            shifts=self._config.shifts,
            seed=self._config.seed,
        )

    @cached_property
    def vectors(self) -> ContextVectors:
        """Token and context vectors of any row of the store."""
        tokens, documents = self._store.tokens, self._store.document_index
        common = self._vectors.common(tokens[self._rows], documents[self._rows])
        return ContextVectors(self._vectors, tokens, documents, common)

    @cached_property
    def _vectors(self) -> TokenVectors:
        store, seed = self._store, self._config.seed
        fit = self._rows_of(scored_documents(self._sizes, FIT_ROWS, seed))
        return TokenVectors.fit(store.tokens[fit], store.document_index[fit], seed=seed)

    def _rows_of(self, documents: np.ndarray) -> np.ndarray:
        chosen = np.zeros(len(self._sizes), dtype=bool)
        chosen[documents] = True
        return np.flatnonzero(chosen[self._store.document_index])
