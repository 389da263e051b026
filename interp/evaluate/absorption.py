"""Absorption: do words escape the latent of their first letter because another one has taken it in?

Chanin et al. 2024, "A is for Absorption", 2409.14507, in the form that SAEBench 0.6 computes
(Karvonen et al. 2025, 2503.09532); the probes are those of `interp.evaluate.spelling`. For a letter
with probe direction p of unit length and latents of activation z_j and direction d_j:

1. Main latents. In order of their difference of means, words of the letter against the others, as
   many as each raise the F1 of a logistic regression on them by more than ``GAIN``; on the words
   the probes were fitted on.
2. Judged are the letter's held-out words whose letter the probe reads. Latent j contributes
   c_j = z_j d_j·p to a word's projection P = (x - b_dec)·p, which is what latents are there to
   explain. (SAEBench takes x·p, in which what all words share counts as well.)
3. Absorbers of a word: the ``ABSORBERS`` largest c_j > 0 of latents that are not main and whose
   cosine with p is at least ``COSINE``. With A their sum and M that of the main latents

       fraction = 0                    if M ≥ P or A < SHARE · P
                = 1                    if M ≤ 0
                = A' / (A' + M)        otherwise, with A' = min(A, P - M)

4. A word is absorbed in full if all main latents are 0 and the largest c_j, of a latent at a cosine
   of at least ``FULL_COSINE``, is at least SHARE · P, and P > 0.

Both are means over words, then over letters; 95 % intervals resample the words of each letter.

Compare dictionaries of the same width and L0 only: more latents make more main ones and more
absorbers. The published figures are of models of a billion parameters and more.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from interp.errors import ConfigError
from interp.evaluate.probing import DRAWS
from interp.evaluate.spelling import Spelling
from interp.features.bases import DictionaryBasis
from interp.products import faster_products
from interp.store.site import JOINT

GAIN = 0.03
MAINS = 10
"""Main latents of a letter at most."""
ABSORBERS = 3
COSINE = 0.1
FULL_COSINE = 0.025
SHARE = 0.4


@dataclass(frozen=True, kw_only=True)
class Absorption:
    """One dictionary's absorption of first letters; the module's docstring has the formulas."""

    basis: str
    """The dictionary's name."""
    kind: str
    """Its architecture."""
    fraction: float
    """Mean share of the explained projection that absorbers carry."""
    fraction_low: float
    """Lower end of its 95 % interval."""
    fraction_high: float
    """Upper end of that interval."""
    full: float
    """Share of words absorbed in full by one latent."""
    full_low: float
    """Lower end of its 95 % interval."""
    full_high: float
    """Upper end of that interval."""
    mains: float
    """Main latents a letter, in the mean."""
    letters: int
    """Letters judged."""
    words: int
    """Held-out words judged."""
    accuracy: float
    """Of the probes that say what the truth is, on held-out words."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


@faster_products()
def absorption(
    bases: Sequence[DictionaryBasis], words: Spelling, *, seed: int = 0
) -> list[Absorption]:
    """Absorption of first letters by each dictionary.

    Args:
        bases: dictionaries of the site that the words were read at.
        words: activations on words, and the probes.
        seed: governs the bootstrap.

    Raises:
        ConfigError: a transcoder or crosscoder, whose latents do not write what they read.
        DataError: a dictionary of another width.
    """
    for basis in bases:
        if basis.dictionary.origin.target is not None or JOINT in basis.site:
            raise ConfigError(
                f"{basis.name} does not write the one site that it reads, so its latents have no "
                "share in a probe there; leave it out"
            )
    return [_one(basis, words, seed) for basis in bases]


def _one(basis: DictionaryBasis, words: Spelling, seed: int) -> Absorption:
    z = basis.encode(torch.from_numpy(words.x).float()).double().cpu().numpy()
    directions = basis.directions().double().cpu().numpy()
    bias = basis.dictionary.b_dec.detach().double().cpu().numpy()
    each: list[Float64[np.ndarray, "judged 2"]] = []
    mains: list[int] = []
    for number, probe in enumerate(words.probes):
        mine, train = words.letter == number, ~words.heldout
        main = main_latents(z[train], mine[train])
        judged = words.heldout & mine & (probe.score(words.x) > 0)
        if not judged.any():
            continue
        p = probe.weight / np.linalg.norm(probe.weight)
        fraction, full = absorbed((words.x[judged] - bias) @ p, z[judged], directions, p, main)
        each.append(np.stack([fraction, full], axis=1))
        mains.append(len(main))
    draw = np.random.default_rng([seed, 0xAB5])
    drawn = np.mean(
        [some[draw.integers(len(some), size=(DRAWS, len(some)))].mean(axis=1) for some in each],
        axis=0,
    )
    mean = np.mean([some.mean(axis=0) for some in each], axis=0)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return Absorption(
        basis=basis.name,
        kind=basis.kind,
        fraction=float(mean[0]),
        fraction_low=float(low[0]),
        fraction_high=float(high[0]),
        full=float(mean[1]),
        full_low=float(low[1]),
        full_high=float(high[1]),
        mains=float(np.mean(mains)),
        letters=len(each),
        words=sum(map(len, each)),
        accuracy=words.accuracy,
    )


def main_latents(
    z: Float64[np.ndarray, "words latents"], positive: Bool[np.ndarray, " words"]
) -> Int64[np.ndarray, " mains"]:
    """The latents that stand for a letter, step 1; at least one."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    difference = z[positive].mean(axis=0) - z[~positive].mean(axis=0)
    order = np.argsort(-difference, kind="stable")[:MAINS]
    reached = 0.0
    for k in range(1, len(order) + 1):
        x = z[:, order[:k]]
        spread = np.where((deviation := x.std(axis=0)) > 0, deviation, 1)
        model = LogisticRegression(class_weight="balanced", max_iter=1000)
        f1 = float(f1_score(positive, model.fit(x / spread, positive).predict(x / spread)))
        if k > 1 and f1 - reached <= GAIN:
            return order[: k - 1]
        reached = f1
    return order


def absorbed(
    projection: Float64[np.ndarray, " words"],
    z: Float64[np.ndarray, "words latents"],
    directions: Float64[np.ndarray, "latents width"],
    p: Float64[np.ndarray, " width"],
    mains: Int64[np.ndarray, " mains"],
) -> tuple[Float64[np.ndarray, " words"], Bool[np.ndarray, " words"]]:
    """Each word's fraction, step 3, and whether it is absorbed in full, step 4."""
    toward = directions @ p
    length = np.linalg.norm(directions, axis=1)
    cosine = np.divide(toward, length, out=np.zeros_like(toward), where=length > 0)
    contribution = z * toward
    main = contribution[:, mains].sum(axis=1)
    may = cosine >= COSINE
    may[mains] = False
    largest = -np.sort(-np.where(may, contribution, 0).clip(min=0), axis=1)[:, :ABSORBERS]
    others = largest.sum(axis=1)
    some = (main < projection) & (others >= SHARE * projection) & (projection > 0)
    within = np.minimum(others, projection - main)
    ratio = np.divide(within, within + main, out=np.ones_like(main), where=some & (main > 0))
    best = contribution.argmax(axis=1)
    at = np.arange(len(z))
    full = (
        (z[:, mains] == 0).all(axis=1)
        & (projection > 0)
        & (cosine[best] >= FULL_COSINE)
        & (contribution[at, best] >= SHARE * projection)
    )
    return np.where(some, ratio, 0.0), full
