"""Context embeddings that know neither the model nor the layer that is judged with them.

A score that says "this unit fires in like contexts" must not measure likeness by the activations
themselves. These embeddings are learnt from the store's token stream alone:

1. Count token pairs at most ``REACH`` apart within a document (frequent tokens only).
2. Positive pointwise mutual information, contexts smoothed by the power 0.75 (Levy, Goldberg &
   Dagan 2015, "Improving distributional similarity", eq. 3).
3. Truncated SVD; token vector = U √Σ, normalised.
4. A row's embedding = Σ over a window around it of decay^distance · w(token) · vector(token), with
   w = a / (a + frequency), a = 10⁻³; then the projection on the first singular vector of all rows
   is removed (Arora, Liang & Ma 2017, SIF, algorithm 1) and the length set to 1.
"""

from dataclasses import dataclass
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float, Float32, Int, Int64, Integer
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import TruncatedSVD

from interp.compiled import compiled
from interp.errors import DataError
from interp.sae.kernels.compiled import even, share

Array = NDArray[Any]

TOKENS, WIDTH, REACH, DECAY, SIF = 8192, 64, 5, 0.8, 1e-3
FIT_ROWS = 2_000_000
"""Rows from which token vectors are learnt at most: those of random documents."""


@dataclass(frozen=True)
class TokenVectors:
    """A vector for each token id, weighted by how little frequent it is."""

    weighted: Float32[np.ndarray, "tokens d"]
    """w(token) · vector(token); zero for tokens too rare to have one."""

    @classmethod
    def fit(
        cls,
        tokens: Integer[np.ndarray, " rows"],
        documents: Int[np.ndarray, " rows"],
        *,
        seed: int,
    ) -> "TokenVectors":
        """Learn from a token stream in which the rows of a document stand together.

        Raises:
            DataError: there is no token.
        """
        if not len(tokens):
            raise DataError("there are no tokens to learn context embeddings from; capture more")
        tokens = tokens.astype(np.int64)
        frequency = np.bincount(tokens)
        kept = np.argsort(-frequency, kind="stable")[:TOKENS]
        kept = kept[frequency[kept] > 0]
        number = np.full(len(frequency), -1, np.int64)
        number[kept] = np.arange(len(kept))
        vectors = _factor(_ppmi(_pairs(number[tokens], documents, len(kept))), seed)
        share = frequency[kept] / len(tokens)
        weighted = np.zeros((len(frequency), vectors.shape[1]), np.float32)
        weighted[kept] = vectors * (SIF / (SIF + share))[:, None]
        return cls(weighted)

    def contexts(
        self,
        tokens: Integer[np.ndarray, " rows"],
        documents: Int[np.ndarray, " rows"],
    ) -> Float32[np.ndarray, "rows d"]:
        """Unit embeddings of rows from the tokens around each of them, within its document.

        Rows without any known token nearby get the zero vector.
        """
        return _normalised(_without_common(_normalised(self._sums(tokens, documents, 65_536))))

    def common(
        self,
        tokens: Integer[np.ndarray, " rows"],
        documents: Int[np.ndarray, " rows"],
    ) -> Float32[np.ndarray, " d"]:
        """The direction all contexts of these rows share, which `contexts` removes."""
        return _common(_normalised(self._sums(tokens, documents, 65_536)))

    def _sums(self, tokens: np.ndarray, documents: np.ndarray, block: int) -> np.ndarray:
        ids = np.minimum(tokens.astype(np.int64), len(self.weighted) - 1)
        known = tokens < len(self.weighted)
        out = np.zeros((len(ids), self.weighted.shape[1]), np.float32)
        for start in range(0, len(ids), block):
            stop = min(start + block, len(ids))
            for step in range(-REACH, REACH + 1):
                low, high = max(start, -step), min(stop, len(ids) - step)
                if low >= high:
                    continue
                near = slice(low + step, high + step)
                same = (documents[near] == documents[low:high]) & known[near]
                scale = (DECAY ** abs(step) * same).astype(np.float32)
                out[low:high] += self.weighted[ids[near]] * scale[:, None]
        return out


class ContextVectors:
    """The two vectors of any row: of its token, and of what stands around it."""

    def __init__(
        self,
        vectors: TokenVectors,
        tokens: Integer[np.ndarray, " rows"],
        documents: Int[np.ndarray, " rows"],
        common: Float32[np.ndarray, " d"],
    ) -> None:
        """Take the rows of a whole store and the common direction, see `TokenVectors.common`."""
        self._vectors, self._common = vectors, common
        self._tokens, self._documents = tokens, documents
        self._token = _normalised(vectors.weighted)
        self._unknown = np.linalg.norm(self._token, axis=1) < 0.5

    def at(
        self, rows: Int64[np.ndarray, " n"]
    ) -> tuple[Float32[np.ndarray, "n d"], Float32[np.ndarray, "n d"]]:
        """Unit vectors of the rows' tokens and of their contexts, the row's own token left out.

        A token too rare to have a vector gets one that is alike only to itself, as far as a seeded
        random direction is.
        """
        size, width = self._vectors.weighted.shape
        around = np.zeros((len(rows), width), np.float32)
        scale = (DECAY ** np.arange(REACH + 1)).astype(np.float32)
        share(
            _surroundings, even(len(rows)), rows, self._tokens, self._documents,
            self._vectors.weighted, scale, around,
        )  # fmt: skip
        around = _normalised(around)
        around = _normalised(around - np.outer(around @ self._common, self._common))
        ids = self._tokens[rows].astype(np.int64)
        token = self._token[np.minimum(ids, size - 1)].copy()
        for place in np.flatnonzero((ids >= size) | self._unknown[np.minimum(ids, size - 1)]):
            draw = np.random.default_rng([0x70CE, int(ids[place])]).normal(size=width)
            token[place] = draw / np.linalg.norm(draw)
        return token, around


@compiled
@no_type_check
def _surroundings(
    first: int,
    last: int,
    rows: Array,
    tokens: Array,
    documents: Array,
    weighted: Array,
    scale: Array,
    out: Array,
) -> None:
    """Add up what stands around rows ``first`` to ``last``, within their documents."""
    reach = len(scale) - 1
    for i in range(first, last):
        row, total = rows[i], out[i]
        for near in range(max(row - reach, 0), min(row + reach + 1, len(tokens))):
            token = np.int64(tokens[near])
            if near != row and documents[near] == documents[row] and token < len(weighted):
                vector, weight = weighted[token], scale[abs(near - row)]
                for column in range(len(total)):
                    total[column] += weight * vector[column]


def _pairs(number: np.ndarray, documents: np.ndarray, size: int) -> sparse.csr_array:
    """How often each pair of tokens stands at most ``REACH`` apart, both ways."""
    total = sparse.csr_array((size, size), dtype=np.float64)
    for step in range(1, REACH + 1):
        left, right = number[:-step], number[step:]
        valid = (documents[:-step] == documents[step:]) & (left >= 0) & (right >= 0)
        keys, counts = np.unique(left[valid] * size + right[valid], return_counts=True)
        part = sparse.coo_array((counts, (keys // size, keys % size)), shape=(size, size))
        total = total + part.tocsr()
    return sparse.csr_array(total + total.T)


def _ppmi(counts: sparse.csr_array) -> sparse.csr_array:
    pairs = counts.tocoo()
    rows, columns = pairs.coords
    target = np.asarray(counts.sum(axis=1)).ravel()
    context = np.asarray(counts.sum(axis=0)).ravel() ** 0.75
    with np.errstate(divide="ignore"):
        expected = target[rows] * context[columns] / max(context.sum(), 1e-12)
        information = np.log(pairs.data / expected)
    kept = information > 0
    values = information[kept]
    return sparse.csr_array((values, (rows[kept], columns[kept])), shape=counts.shape)


def _factor(matrix: sparse.csr_array, seed: int) -> Float[np.ndarray, "tokens d"]:
    size = int(matrix.indptr.size) - 1
    width = min(WIDTH, size - 1)
    if width < 2 or matrix.nnz == 0:
        # Too few tokens for a factorisation: each is its own direction.
        return np.eye(size, max(min(size, WIDTH), 2))
    if size <= 4 * WIDTH:
        left, values, _ = np.linalg.svd(matrix.toarray(), full_matrices=False)
        factors = left[:, :width] * np.sqrt(values[:width])
    else:
        solver = TruncatedSVD(width, algorithm="randomized", n_iter=4, random_state=seed)
        factors = solver.fit_transform(matrix)
        factors = factors / np.sqrt(np.maximum(solver.singular_values_, 1e-12))
    return _normalised(factors)


def _without_common(rows: np.ndarray) -> np.ndarray:
    """Rows without the component along the first singular vector of them all."""
    if len(rows) < 2:
        return rows
    common = _common(rows)
    return rows - np.outer(rows @ common, common)


def _common(rows: np.ndarray) -> Float32[np.ndarray, " d"]:
    """First right singular vector."""
    _, vectors = np.linalg.eigh(rows.T.astype(np.float64) @ rows)
    return vectors[:, -1].astype(np.float32)


def _normalised(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(length > 1e-8, rows / np.maximum(length, 1e-8), 0).astype(rows.dtype)
