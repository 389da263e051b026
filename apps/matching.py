"""Which latents of one dictionary another one has too: matched, split, merged or missing. No torch.

Directions are decoder rows; the cosine keeps its sign, as in `interp.evaluate.shared`.

1. nearest: each latent's greatest cosine with a latent of the other dictionary, both ways, in
   blocks, so that memory grows with the latents and not with their product.
2. At a threshold t, the *children* of a latent are those latents of the other dictionary whose
   nearest it is, at a cosine of at least t. A latent is

       missing   if its own greatest cosine is below t,
       split     else, if it has at least two children,
       matched   else, if it has exactly one, which is its partner,
       merged    else: what is nearest to it is nearer to another latent of its own dictionary.
3. chance: the same against the other dictionary turned by a random rotation, which keeps its
   latents' angles to each other and breaks those to the first.

Directions compare only within one place: two dictionaries of one model and site (and one target).
Bases of different models or sites that were measured on the same tokens are matched by where they
fire most strongly instead: the cosine is that of two units' sets of strongest contexts, |A ∩ B| /
√(|A| |B|), and chance is the same with the other's contexts shifted along the store.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from scipy import sparse

from interp.errors import ConfigError, DataError, FormatError
from interp.features.table import UnitTable
from interp.files import read_json
from interp.store import ActivationStore

KINDS = ("matched", "split", "merged", "missing")
MATCHED, SPLIT, MERGED, MISSING = range(4)
BLOCK = 1024
MOST = 4e12
"""Multiplications that a page may ask for, about a minute of two cores."""


@dataclass(frozen=True)
class Matching:
    """Nearest latents of two dictionaries, both ways, and what chance gives."""

    nearest: tuple[np.ndarray, np.ndarray]
    """Per latent of the first (of the second), the latent of the other it is nearest to."""
    cosine: tuple[np.ndarray, np.ndarray]
    """The cosine with it."""
    chance: tuple[np.ndarray, np.ndarray]
    """The same cosine against the other dictionary turned at random."""

    def kinds(self, threshold: float, side: int = 0) -> np.ndarray:
        """Per latent of one side, the index of its kind in `KINDS`."""
        n = len(self.cosine[side])
        back, strong = self.nearest[1 - side], self.cosine[1 - side] >= threshold
        children = np.bincount(back[strong], minlength=n)
        return np.select(
            [self.cosine[side] < threshold, children >= 2, children == 1],
            [MISSING, SPLIT, MATCHED],
            MERGED,
        )

    def partners(self, latent: int, threshold: float, side: int = 0) -> list[int]:
        """The children of a latent, the nearest first; without any, what is nearest to it."""
        cosine = self.cosine[1 - side]
        own = np.flatnonzero((self.nearest[1 - side] == latent) & (cosine >= threshold))
        ordered = own[np.argsort(-cosine[own], kind="stable")]
        return [int(each) for each in ordered] or [int(self.nearest[side][latent])]


def directions(folder: Path) -> np.ndarray:
    """Decoder rows ``[latents, width]`` of a dictionary, at unit length; zero ones stay zero.

    Raises:
        FormatError: its weights are missing or damaged.
    """
    path = folder / "weights.safetensors"
    try:
        with safe_open(path, framework="numpy") as file:
            rows = np.asarray(file.get_tensor("W_dec"), dtype=np.float32)
    except FileNotFoundError as error:
        raise FormatError(f"{path} does not exist; train again") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise FormatError(f"{path} is damaged ({error}); delete it and train again") from error
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise FormatError(f"{path} holds no finite decoder; train again")
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


def place(folder: Path) -> tuple[Any, ...]:
    """What must be the same in two dictionaries for their directions to compare.

    Raises:
        FormatError: the config is missing or malformed.
    """
    origin = read_json(folder / "config.json").get("origin")
    if not isinstance(origin, dict):
        raise FormatError(f"{folder / 'config.json'} does not say what it was trained on")
    return tuple(origin.get(key) for key in ("model", "site", "target"))


def match(
    one: np.ndarray,
    other: np.ndarray,
    *,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Matching:
    """Match two dictionaries by their directions.

    Args:
        one: unit rows ``[m, width]``.
        other: unit rows ``[n, width]``.
        seed: of the random rotation.
        progress: called with the share done.

    Raises:
        ConfigError: they are not equally wide, or too large to compare here.
    """
    if one.shape[1] != other.shape[1]:
        raise ConfigError(
            f"directions {one.shape[1]} and {other.shape[1]} wide do not compare; choose "
            "dictionaries of one site"
        )
    work = 2.0 * len(one) * len(other) * one.shape[1]
    if work > MOST:
        raise ConfigError(
            f"{len(one):,} latents against {len(other):,} take too long for a page; "
            "`interp evaluate STORE SITE --bases ONE OTHER --shared` compares them"
        )
    near, cosine = _nearest(one, other, lambda share: progress(share / 2))
    turned = other @ _rotation(other.shape[1], seed)
    _, chance = _nearest(one, turned, lambda share: progress(0.5 + share / 2))
    return Matching(near, cosine, chance)


def match_contexts(one: UnitTable, other: UnitTable, *, seed: int = 0) -> Matching:
    """Match the units of two tables by their strongest contexts.

    Args:
        one: the first table.
        other: the second, measured on the same rows (see `same_rows`).
        seed: of the shift that shows what chance gives.

    Raises:
        DataError: the tables have different numbers of rows.
        FormatError: a table is malformed.
    """
    if one.rows != other.rows:
        raise DataError(
            f"{one.rows:,} and {other.rows:,} rows do not compare; extract both from captures of "
            "the same documents"
        )
    a, b = one.peaks(), other.peaks()
    shift = int(np.random.default_rng([seed, 0x5A4E]).integers(1, max(one.rows, 2)))
    turned = np.where(b >= 0, (b + shift) % one.rows, -1)
    near, cosine = _nearest_sets(_sets(a, one.rows), _sets(b, one.rows))
    _, chance = _nearest_sets(_sets(a, one.rows), _sets(turned, one.rows))
    return Matching(near, cosine, chance)


def same_rows(one: ActivationStore, other: ActivationStore) -> bool:
    """Whether the same token of the same document stands in each row of two stores."""
    if one.digest == other.digest:
        return True
    plans = [(store.manifest.plan, store.manifest.documents, store.rows) for store in (one, other)]
    return bool(plans[0][0]) and plans[0] == plans[1]


def _sets(rows: np.ndarray, count: int) -> sparse.csr_array:
    """Each unit's rows as a sparse row of length 1; a unit without any is zero."""
    units, places = np.nonzero(rows >= 0)
    size = np.maximum((rows >= 0).sum(axis=1), 1)
    values = 1 / np.sqrt(size[units], dtype=np.float32)
    shape = (len(rows), count)
    return sparse.csr_array((values, (units, rows[units, places])), shape=shape)


def _nearest_sets(
    one: sparse.csr_array, other: sparse.csr_array
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    similar = sparse.csr_array(one @ other.T)
    ways = (similar, sparse.csr_array(similar.T))
    near = tuple(np.asarray(way.argmax(axis=1)).ravel() for way in ways)
    # Rounded, so that three of six contexts are a half.
    best = tuple(way.max(axis=1).toarray().ravel().round(5) for way in ways)
    return (near[0], near[1]), (best[0], best[1])


def _nearest(
    one: np.ndarray, other: np.ndarray, progress: Callable[[float], None]
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    m, n = len(one), len(other)
    near, back = np.zeros(m, np.int64), np.zeros(n, np.int64)
    best, best_back = np.zeros(m, np.float32), np.full(n, -np.inf, np.float32)
    for start in range(0, m, BLOCK):
        similar = one[start : start + BLOCK] @ other.T
        rows = slice(start, start + len(similar))
        near[rows] = similar.argmax(axis=1)
        best[rows] = similar.max(axis=1)
        top = similar.argmax(axis=0)
        value = similar[top, np.arange(n)]
        better = value > best_back
        back[better], best_back[better] = top[better] + start, value[better]
        progress(min(start + BLOCK, m) / m)
    return (near, back), (best, best_back)


def _rotation(width: int, seed: int) -> np.ndarray:
    """A rotation or reflection drawn uniformly."""
    draw = np.random.default_rng([seed, 0x5A4E]).normal(size=(width, width))
    q, r = np.linalg.qr(draw)
    return (q * np.sign(np.diag(r))).astype(np.float32)
