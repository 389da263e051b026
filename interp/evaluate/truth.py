"""Whether a dictionary found the features that are known to be there.

With true unit directions g (G of them) and a dictionary's directions d (K of them):

    MMCS        mean over g of max over d of |cos|           (Sharkey et al. 2022)
    MCC         mean |cos| over the best one-to-one matching, of min(G, K) pairs (Hungarian); widths
                do not compare by it
    MCC of all  the same sum divided by G: a feature that has no partner counts as 0
    uniqueness  distinct best truths of the latents / K

and on rows with known codes, a latent or feature being on where it is above 0:

    F1            per true feature, that of its partner in the matching, 0 without one; mean over
                  the features that are on in some row. Precision and recall likewise, over those
                  with a partner.
    F1 by latent  mean over latents of the F1 with the truth of greatest |cos|, as SynthSAEBench
                  has it: several latents may claim one truth, and missed truths cost nothing
    shrinkage     mean ‖x̂‖ / ‖x‖ over rows that are not 0

Good reconstruction is no recovery: all of these are low for dictionaries of high FVE that mix
features.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from scipy.optimize import linear_sum_assignment

from interp.errors import DataError
from interp.products import faster_products
from interp.sae import Dictionary

Rows = tuple[Float32[np.ndarray, "_ d_in"], Float32[np.ndarray, "_ feature"]]
"""Rows and their true codes."""


def cosines(
    a: Float[np.ndarray, "m d_in"], b: Float[np.ndarray, "n width"]
) -> Float64[np.ndarray, "m n"]:
    """Cosine of each row of one with each of the other; 0 where a row is zero.

    Raises:
        DataError: the rows are not equally wide.
    """
    if a.shape[1] != b.shape[1]:
        raise DataError(f"directions {a.shape[1]} and {b.shape[1]} wide do not compare")
    units = [
        rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
        for rows in (a.astype(np.float64), b.astype(np.float64))
    ]
    return units[0] @ units[1].T


def mmcs(truth: Float[np.ndarray, "g d_in"], found: Float[np.ndarray, "k width"]) -> float:
    """Mean over true directions of the greatest |cosine| with a found one."""
    return float(np.abs(cosines(truth, found)).max(axis=1).mean())


def matching(
    truth: Float[np.ndarray, "g d_in"], found: Float[np.ndarray, "k width"]
) -> tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"]]:
    """The one-to-one pairs of greatest summed |cosine|: indices of truths, of found ones."""
    rows, columns = linear_sum_assignment(np.abs(cosines(truth, found)), maximize=True)
    return rows.astype(np.int64), columns.astype(np.int64)


def mcc(truth: Float[np.ndarray, "g d_in"], found: Float[np.ndarray, "k width"]) -> float:
    """Mean |cosine| over the best one-to-one matching; symmetric."""
    return float(np.abs(cosines(truth, found))[matching(truth, found)].mean())


def uniqueness(truth: Float[np.ndarray, "g d_in"], found: Float[np.ndarray, "k width"]) -> float:
    """The share of latents that would be left if each truth kept one of those nearest to it."""
    nearest = np.abs(cosines(truth, found)).argmax(axis=0)
    return len(np.unique(nearest)) / len(found)


def pairwise_mcc(dictionaries: Sequence[Float[np.ndarray, "k d_in"]]) -> float:
    """Seed stability: the mean MCC over all pairs of dictionaries.

    Raises:
        DataError: there are fewer than two.
    """
    if len(dictionaries) < 2:
        raise DataError("seed stability compares dictionaries; give at least two")
    return float(np.mean([mcc(a, b) for a, b in combinations(dictionaries, 2)]))


@dataclass(frozen=True, kw_only=True)
class Truth:
    """How much of the truth a dictionary found; the module's docstring has the formulas."""

    mmcs: float
    """Mean greatest |cosine|."""
    mcc: float
    """Mean matched |cosine|."""
    mcc_of_all: float
    """The same, a feature without a partner counting 0."""
    uniqueness: float
    """Share of latents with a truth of their own."""
    f1: float
    """One-to-one, unmatched features counting 0."""
    precision: float
    """Of matched features."""
    recall: float
    """Of matched features."""
    f1_by_latent: float
    """Many-to-one, as SynthSAEBench."""
    shrinkage: float
    """Mean ratio of lengths, reconstruction to row."""
    fve: float
    """Fraction of variance explained on the same rows."""
    l0: float
    """Mean active latents."""
    true_l0: float
    """Mean active features."""
    rows: int
    """Rows it was measured on."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


class _Overlap:
    """Counts rows in which paired units are on together, and each alone."""

    def __init__(
        self, truths: Int64[np.ndarray, " pair"], latents: Int64[np.ndarray, " pair"]
    ) -> None:
        self.truths, self.latents = truths, latents
        self.both = np.zeros(len(truths))

    def add(self, on: np.ndarray, fired: np.ndarray) -> None:
        self.both += np.einsum("rp,rp->p", on[:, self.truths], fired[:, self.latents])


@faster_products()
@torch.inference_mode()
def judge(
    dictionary: Dictionary, truth: Float[np.ndarray, "feature d_in"], batches: Iterable[Rows]
) -> Truth:
    """Measure a dictionary on rows whose true codes are known.

    Args:
        dictionary: the dictionary.
        truth: the true directions.
        batches: rows with their codes.

    Raises:
        DataError: there are no rows, they do not vary, or no feature is ever on.
    """
    found = dictionary.directions().cpu().numpy()
    absolute = np.abs(cosines(truth, found))
    pairs = matching(truth, found)
    nearest = absolute.argmax(axis=0).astype(np.int64)
    one, many = _Overlap(*pairs), _Overlap(nearest, np.arange(len(found), dtype=np.int64))
    on_rows, fired_rows = np.zeros(len(truth)), np.zeros(len(found))
    total, squares, errors, count = np.zeros(truth.shape[1]), 0.0, 0.0, 0
    ratios: list[np.ndarray] = []
    for x, codes in batches:
        z = dictionary.encode(torch.from_numpy(x).to(dictionary.W_enc.device))
        back = dictionary.decode(z).cpu().numpy().astype(np.float64)
        on, fired = (codes > 0).astype(np.float32), (z > 0).float().cpu().numpy()
        for overlap in (one, many):
            overlap.add(on, fired)
        on_rows += on.sum(axis=0, dtype=np.float64)
        fired_rows += fired.sum(axis=0, dtype=np.float64)
        total += x.sum(axis=0, dtype=np.float64)
        squares += float(np.square(x, dtype=np.float64).sum())
        errors += float(np.square(x - back).sum())
        lengths = np.linalg.norm(x, axis=1)
        present = lengths > 0
        ratios.append(np.linalg.norm(back, axis=1)[present] / lengths[present])
        count += len(x)
    variance = squares - float(np.square(total).sum()) / max(count, 1)
    if variance <= 0:
        raise DataError("rows that do not vary say nothing about a dictionary; draw more")
    if not (on_rows > 0).any():
        raise DataError("no true feature is on in any row, so nothing can be found; draw more rows")
    f1 = np.zeros(len(truth))
    f1[pairs[0]] = _f1(one.both, on_rows[pairs[0]], fired_rows[pairs[1]])
    seen = on_rows[pairs[0]] > 0
    precision = _ratio(one.both, fired_rows[pairs[1]])[seen]
    recall = _ratio(one.both, on_rows[pairs[0]])[seen]
    return Truth(
        mmcs=float(absolute.max(axis=1).mean()),
        mcc=float(absolute[pairs].mean()),
        mcc_of_all=float(absolute[pairs].sum() / len(truth)),
        uniqueness=len(np.unique(nearest)) / len(found),
        f1=float(f1[on_rows > 0].mean()),
        precision=float(precision.mean()) if len(precision) else 0.0,
        recall=float(recall.mean()) if len(recall) else 0.0,
        f1_by_latent=float(_f1(many.both, on_rows[nearest], fired_rows).mean()),
        shrinkage=float(np.concatenate(ratios).mean()),
        fve=1 - errors / variance,
        l0=float(fired_rows.sum()) / count,
        true_l0=float(on_rows.sum()) / count,
        rows=count,
    )


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return part / np.maximum(whole, 1)


def _f1(both: np.ndarray, on: np.ndarray, fired: np.ndarray) -> np.ndarray:
    """2 TP / (2 TP + FP + FN); 0 where neither is ever on."""
    return 2 * both / np.maximum(on + fired, 1)
