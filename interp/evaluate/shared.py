"""What dictionaries of one site have in common: shared and unique latents, and PW-MCC.

Directions are decoder rows; the cosine keeps its sign, a latent's opposite is another feature.

1. nearest: each latent's greatest cosine with a latent of the other dictionary, both ways.
2. one-to-one: the matching of greatest summed cosine (Hungarian), where neither dictionary has more
   than ``MOST`` latents.
3. A latent is shared at a threshold if its cosine reaches it, unique otherwise. ``share`` is the
   part of all latents of a dictionary, so a smaller partner leaves some unmatched.
4. baseline: the same against the other dictionary turned by a random rotation, which keeps its
   latents' angles to each other and breaks those to the first: what chance gives at this width.

PW-MCC is the mean over pairs of the MCC of `interp.evaluate.truth`, on |cos| and over all latents,
dead ones too: seed stability, if the dictionaries differ in nothing but their seed. Widths do not
compare by it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64
from scipy.optimize import linear_sum_assignment

from interp.errors import ConfigError, DataError
from interp.evaluate.truth import cosines, pairwise_mcc
from interp.sae import Dictionary

THRESHOLDS = (0.5, 0.7, 0.9)
MOST = 8192
"""Latents up to which they are matched one to one; the time grows with their third power."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """How much of one dictionary another has."""

    one: str
    """The first dictionary's name."""
    other: str
    """The second's."""
    latents: tuple[int, int]
    """How many latents of each were compared."""
    nearest: tuple[float, float]
    """Mean greatest cosine, of the first's latents and of the second's."""
    matched: float | None
    """Mean cosine of the one-to-one pairs."""
    thresholds: tuple[float, ...]
    """Cosines from which on a latent counts as shared."""
    share_nearest: tuple[tuple[float, ...], tuple[float, ...]]
    """Share of latents whose greatest cosine reaches each threshold, either way."""
    share_matched: tuple[tuple[float, ...], tuple[float, ...]] | None
    """Share of latents whose one-to-one partner does, either way; None where too many."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return _lists(asdict(self))


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two dictionaries, and what chance gives."""

    found: Overlap
    """The dictionaries as they are."""
    baseline: Overlap
    """The second turned by a random rotation."""
    unique: tuple[tuple[int, ...], tuple[int, ...]]
    """Latents of each without any of the other at the middle threshold."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return _lists(asdict(self))


def shared(
    dictionaries: Sequence[Dictionary],
    names: Sequence[str],
    *,
    alive: Sequence[Bool[np.ndarray, " latents"]] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    seed: int = 0,
) -> tuple[list[Comparison], float | None]:
    """Compare every pair of dictionaries of one site; and their PW-MCC if all are equally wide.

    Args:
        dictionaries: at least two, of one model and site.
        names: theirs.
        alive: which latents of each to compare, such as those that fire on held-out rows; by
            default all.
        thresholds: cosines from which on a latent is shared.
        seed: of the random rotations.

    Returns:
        One comparison a pair, and PW-MCC over all latents, None where the dictionaries differ in
        width or are wider than ``MOST``.

    Raises:
        ConfigError: fewer than two, different sites, no threshold, or a name or mask is missing.
        DataError: a dictionary has no latent to compare.
    """
    if len(dictionaries) < 2 or len(names) != len(dictionaries):
        raise ConfigError("shared latents are those of several dictionaries; name at least two")
    if alive is not None and len(alive) != len(dictionaries):
        raise ConfigError("give a mask of live latents for every dictionary, or for none")
    places = {(each.origin.model, each.origin.site, each.origin.target) for each in dictionaries}
    if len(places) > 1:
        listed = " and ".join(sorted(f"{model}/{site}" for model, site, _ in places))
        raise ConfigError(f"latents of {listed} do not compare; name dictionaries of one site")
    if not thresholds or not all(0 < each <= 1 for each in thresholds):
        raise ConfigError(f"thresholds are cosines above 0 and at most 1, got {list(thresholds)}")
    rows: list[Float[np.ndarray, "latents d_in"]] = []
    kept: list[np.ndarray] = []
    for number, (each, name) in enumerate(zip(dictionaries, names, strict=True)):
        used = np.ones(each.n_latents, bool) if alive is None else alive[number]
        if not used.any():
            raise DataError(f"{name} has no latent to compare: none ever fired")
        kept.append(np.flatnonzero(used))
        rows.append(each.directions().cpu().numpy()[used].astype(np.float64))
    steps = tuple(sorted(thresholds))
    comparisons: list[Comparison] = []
    for a, b in combinations(range(len(rows)), 2):
        similar = cosines(rows[a], rows[b])
        turned = cosines(rows[a], rows[b] @ _rotation(rows[b].shape[1], seed, a, b))
        middle = steps[len(steps) // 2]
        comparisons.append(
            Comparison(
                found=_overlap(names[a], names[b], similar, steps),
                baseline=_overlap(names[a], f"{names[b]}, turned", turned, steps),
                unique=(
                    tuple(kept[a][similar.max(axis=1) < middle].tolist()),
                    tuple(kept[b][similar.max(axis=0) < middle].tolist()),
                ),
            )
        )
    widths = {each.n_latents for each in dictionaries}
    if len(widths) > 1 or max(widths) > MOST:
        return comparisons, None
    return comparisons, pairwise_mcc([each.directions().cpu().numpy() for each in dictionaries])


def _rotation(width: int, *seed: int) -> Float64[np.ndarray, "width width"]:
    """A rotation or reflection drawn uniformly."""
    draw = np.random.default_rng([*seed, 0x5A4E]).normal(size=(width, width))
    q, r = np.linalg.qr(draw)
    return q * np.sign(np.diag(r))


def _overlap(
    one: str, other: str, similar: Float64[np.ndarray, "m n"], thresholds: tuple[float, ...]
) -> Overlap:
    nearest = similar.max(axis=1), similar.max(axis=0)
    pairs = None
    if max(similar.shape) <= MOST:
        pairs = similar[linear_sum_assignment(similar, maximize=True)]
    m, n = similar.shape

    def shares(values: np.ndarray, of: int) -> tuple[float, ...]:
        return tuple(float((values >= each).sum() / of) for each in thresholds)

    return Overlap(
        one=one,
        other=other,
        latents=(m, n),
        nearest=(float(nearest[0].mean()), float(nearest[1].mean())),
        matched=None if pairs is None else float(pairs.mean()),
        thresholds=thresholds,
        share_nearest=(shares(nearest[0], m), shares(nearest[1], n)),
        share_matched=None if pairs is None else (shares(pairs, m), shares(pairs, n)),
    )


def _lists(value: Any) -> Any:
    """Tuples as lists, all the way down."""
    if isinstance(value, dict):
        return {key: _lists(each) for key, each in value.items()}  # type: ignore[reportUnknownVariableType]
    if isinstance(value, tuple | list):
        return [_lists(each) for each in value]  # type: ignore[reportUnknownVariableType]
    return value
