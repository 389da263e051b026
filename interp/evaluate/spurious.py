"""Spurious correlation removal: do a basis' units free a probe from what misled it?

Marks et al. 2024, "Sparse Feature Circuits" (SHIFT), 2403.19647, as a score in Karvonen et al.
2025, "SAEBench", 2503.09532; here with labels of the documents, a target t and a spurious s, such
as the domain and the language:

1. Windows as in `interp.evaluate.perturbation`: means of their rows, in four cells by t and s. Each
   cell counts alike wherever several are used together.
2. Three probes, logistic regressions on windows of training documents: the *biased* one reads t
   where t and s always agree (two cells), so it may as well read s; the *oracle* reads t, and one
   more reads s, on all four.
3. Unit j matters for s by how much more active it is with s, at equal t, times how far its
   direction moves the probe of s: ½ Σ_t (E[z_j | s, t] - E[z_j | not s, t]) · (w_s · d_j). The n
   units of the largest product are removed, x - Σ_j z_j d_j.
4. With A the share of held-out windows on which a probe reads t right, the mean of the four cells,

       SCR = (A_ablated - A_biased) / (A_oracle - A_biased)

   which is 1 where removing s's units makes the biased probe as good as the oracle, 0 where it
   changes nothing, and below 0 where it harms. Removed units are 0 on every window, and where that
   is what one side of s looks like the probe stays misled. 95 % intervals resample documents.

A pair of labels is tried if each cell has ``LEAST`` training and ``LEAST`` held-out documents, both
ways round, and counts if the biased probe is worse than the oracle by at least ``GAP`` and by an
interval above 0: else there is nothing to remove.

**Do not rank dictionaries by it.** In an audit of SAEBench's form its rank correlation with a
known truth was -.64 at n = 500, and its own skyline came out below 11 of 35 dictionaries; no audit
of this form exists. Differences between a basis and its random control are what it is for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from interp.errors import DataError
from interp.evaluate.perturbation import (
    LinearProbe,
    check_removable,
    fit_probe,
    largest,
    window_means,
)
from interp.evaluate.probing import DRAWS, LEAST, Examples, choose, labels_of, pool
from interp.features.bases import Basis
from interp.products import faster_products
from interp.progress import Part, Progress, silent
from interp.store import ActivationStore

GAP = 0.05
"""Accuracy that the biased probe must lack for there to be something to remove."""
PAIRS = 4
"""Pairs of labels tried at most, those whose smallest cell has the most held-out documents."""
SIDES = ((True, True), (True, False), (False, True), (False, False))
"""The cells, by target and spurious label."""


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What removing n units of a spurious label does; the module's docstring has the formula."""

    basis: str
    """The basis' name."""
    kind: str
    """Its kind."""
    target: str
    """The label that the probe should read."""
    spurious: str
    """The label that went with it in training."""
    n: int
    """Units removed, at most."""
    scr: float
    """Share of the biased probe's deficit that goes."""
    scr_low: float
    """Lower end of its 95 % interval."""
    scr_high: float
    """Upper end of that interval."""
    biased: float
    """Accuracy of the biased probe; ½ is chance."""
    ablated: float
    """Of the same probe with the units removed."""
    oracle: float
    """Of the probe trained on all four cells."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class _Pair:
    """Two labels whose four cells are there, and the probes on them."""

    target: str
    spurious: str
    t: Bool[np.ndarray, " windows"]
    s: Bool[np.ndarray, " windows"]
    biased: LinearProbe
    oracle: LinearProbe
    reads_spurious: LinearProbe


@faster_products()
def remove_spurious(
    bases: Sequence[Basis],
    store: ActivationStore,
    *,
    ns: Sequence[int] = (2, 10, 50),
    windows: int = 4096,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Removal]:
    """SCR of each basis, for each pair of labels and number of units.

    Args:
        bases: of one site, which they also write.
        store: whose documents carry the labels.
        ns: how many units to remove; at most all.
        windows: at most so many of each split, chosen by ``seed``.
        seed: governs the choice and the bootstrap.
        progress: told the rows done.

    Raises:
        ConfigError: a number is below 1, no basis, bases of several sites, or a transcoder.
        DataError: no domain and language cross in enough documents, or none misleads a probe.
        UnknownName: no such site.
    """
    check_removable(bases, ns, windows)
    examples, crossed = crossed_labels(store, windows, seed)
    x = window_means(bases[0].site, store, examples, Part(progress, 0, len(bases) + 1))
    pairs = [_pair(*names, *labels, x, examples) for names, labels in crossed.items()]
    judges = [_Judge(pair, x, examples, seed) for pair in pairs]
    judges = [judge for judge in judges if judge.misled()]
    if not judges:
        names = ", ".join(f"{pair.target} with {pair.spurious}" for pair in pairs)
        raise DataError(
            f"no label of store {store.name} misleads a probe by {GAP:.0%} ({names}), so there is "
            "no correlation to remove; try another site or corpus"
        )
    found: list[Removal] = []
    for number, basis in enumerate(bases, 1):
        z = pool(basis, store, examples, Part(progress, number, len(bases) + 1))
        directions = basis.directions().float().cpu().numpy()
        found += [judge(basis, z, directions, n) for judge in judges for n in ns]
    return found


def crossed_labels(
    store: ActivationStore, windows: int = 4096, seed: int = 0
) -> tuple[Examples, Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]]]:
    """The windows of a store and the pairs of its labels that can mislead; reads no activations.

    Raises:
        DataError: no domain and language cross in enough documents.
    """
    examples = choose(store, windows, seed)
    crossed = crossings(labels_of(store, examples), examples)
    if not crossed:
        raise DataError(
            f"no domain and language of store {store.name} cross in {LEAST} training and {LEAST} "
            "held-out documents each way, so none can mislead a probe; capture more documents"
        )
    return examples, crossed


def crossings(
    labels: Mapping[str, Bool[np.ndarray, " windows"]], examples: Examples
) -> dict[tuple[str, str], tuple[Bool[np.ndarray, " windows"], Bool[np.ndarray, " windows"]]]:
    """Pairs of labels of different fields all of whose cells have documents enough."""
    apart: dict[str, np.ndarray] = {}  # of two languages each is what the other is not
    for name, mine in labels.items():
        if not any((mine != other).all() for other in apart.values()):
            apart[name] = mine
    sizes: dict[tuple[str, str], int] = {}
    for one, other in product(apart, apart):
        if one.split("=")[0] == other.split("=")[0]:
            continue
        counts = [
            len(np.unique(examples.document[cell & (examples.heldout == split)]))
            for cell in _cells(labels[one], labels[other])
            for split in (False, True)
        ]
        if min(counts) >= LEAST:
            sizes[one, other] = min(counts[1::2])
    best = sorted(sizes, key=lambda pair: (-sizes[pair], sorted(pair), pair))[:PAIRS]
    return {(one, other): (labels[one], labels[other]) for one, other in best}


def _cells(t: Bool[np.ndarray, " n"], s: Bool[np.ndarray, " n"]) -> list[Bool[np.ndarray, " n"]]:
    """The windows of each of `SIDES`."""
    return [(t == target) & (s == spurious) for target, spurious in SIDES]


def _pair(
    target: str,
    spurious: str,
    t: Bool[np.ndarray, " windows"],
    s: Bool[np.ndarray, " windows"],
    x: Float64[np.ndarray, "windows width"],
    examples: Examples,
) -> _Pair:
    train = ~examples.heldout
    weight = np.zeros(len(t))
    for cell in _cells(t, s):
        weight[cell & train] = 1 / (cell & train).sum()

    def fit(y: Bool[np.ndarray, " windows"], of: Bool[np.ndarray, " windows"]) -> LinearProbe:
        return fit_probe(x[of], y[of], weight[of] * (of.sum() / weight[of].sum()))

    return _Pair(target, spurious, t, s, fit(t, train & (t == s)), fit(t, train), fit(s, train))


class _Judge:
    """Scores bases on one pair of labels."""

    def __init__(
        self, pair: _Pair, x: Float64[np.ndarray, "windows width"], examples: Examples, seed: int
    ) -> None:
        self._pair, self._held, self._train = pair, examples.heldout, ~examples.heldout
        self._x = x[self._held]
        document = examples.document[self._held]
        documents, owner = np.unique(document, return_inverse=True)
        self._one_hot = np.eye(len(documents))[owner]
        draw = np.random.default_rng([seed, 0x5C2])
        even = np.full(len(documents), 1 / len(documents))
        self._weights = np.vstack(
            [np.ones(len(documents)), draw.multinomial(len(documents), even, size=DRAWS)]
        )
        self._biased = self._accuracy(pair.biased, self._x)
        self._oracle = self._accuracy(pair.oracle, self._x)

    def misled(self) -> bool:
        """Whether the biased probe lacks accuracy enough to be given any back."""
        gap = self._oracle - self._biased
        return bool(gap[0] >= GAP and np.nanquantile(gap[1:], 0.025) > 0)

    def __call__(
        self,
        basis: Basis,
        z: Float32[np.ndarray, "windows units"],
        directions: Float32[np.ndarray, "units width"],
        n: int,
    ) -> Removal:
        pair = self._pair
        units = spurious_units(
            z[self._train], directions, pair.t[self._train], pair.s[self._train],
            pair.reads_spurious.weight, n,
        )  # fmt: skip
        without = self._x - z[self._held][:, units].astype(np.float64) @ directions[units]
        ablated = self._accuracy(pair.biased, without)
        gap = self._oracle - self._biased
        there = np.isfinite(gap) & (gap > 0)
        scr = (ablated - self._biased)[there] / gap[there]
        low, high = np.quantile(scr[1:], [0.025, 0.975]).tolist()
        return Removal(
            basis=basis.name,
            kind=basis.kind,
            target=pair.target,
            spurious=pair.spurious,
            n=n,
            scr=float(scr[0]),
            scr_low=low,
            scr_high=high,
            biased=float(self._biased[0]),
            ablated=float(ablated[0]),
            oracle=float(self._oracle[0]),
        )

    def _accuracy(
        self, probe: LinearProbe, x: Float64[np.ndarray, "held width"]
    ) -> Float64[np.ndarray, " draws"]:
        """Mean of the cells' accuracies, of the sample and of each draw; NaN without a cell."""
        t, s = self._pair.t[self._held], self._pair.s[self._held]
        right = (probe.score(x) > 0) == t
        shares: list[np.ndarray] = []
        for cell in _cells(t, s):
            there = self._weights @ (cell @ self._one_hot)
            hits = self._weights @ ((cell & right) @ self._one_hot)
            shares.append(np.divide(hits, there, out=np.full(len(hits), np.nan), where=there > 0))
        return np.mean(shares, axis=0)


def spurious_units(
    z: Float32[np.ndarray, "n units"],
    directions: Float32[np.ndarray, "units width"],
    t: Bool[np.ndarray, " n"],
    s: Bool[np.ndarray, " n"],
    weight: Float64[np.ndarray, " width"],
    n: int,
) -> Int64[np.ndarray, " chosen"]:
    """The units that matter most for the spurious label, step 3; fewer where fewer matter."""
    more = [
        z[(t == target) & s].mean(axis=0, dtype=np.float64)
        - z[(t == target) & ~s].mean(axis=0, dtype=np.float64)
        for target in (True, False)
    ]
    return largest(np.mean(more, axis=0) * (directions @ weight), n)
