"""FMS, the feature monosemanticity score: is a label in one unit, in no other, and all of it?

Härle et al. 2025, "Measuring and guiding monosemanticity", 2506.19382, with the labels of the
documents (domain, language), each against all others, on the windows of `interp.evaluate.probing`:

1. acc_0: held-out balanced accuracy of the best single Gini split, its unit the root.
2. acc_p: the same after the first p roots have been taken away, one after another.
   local = 2 (acc_0 - acc_p): 1 where the label was in them and nowhere else.
3. acc_i: that of a tree of i further splits, grown best first.
   global = 1 - Σ_{i=1..n} (acc_i - acc_0) / n: 1 where further splits add nothing.
4. FMS@p = acc_0 (local + global) / 2, and its mean over the labels.

1 is a unit that is the label; .25 is chance (acc_0 = ½, local 0, global 1). Intervals of 95 %
resample held-out documents. Ours, not the paper's: balanced accuracy, since labels are rarer than
their absence; n = 5; further splits may be of the root itself; and trees choose among the
``SCREENED`` units of greatest F statistic.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from interp.errors import ConfigError
from interp.evaluate.probing import DRAWS, Examples, examples_of, pool
from interp.features.bases import Basis
from interp.products import faster_products
from interp.progress import Part, Progress, silent
from interp.store import ActivationStore

SCREENED = 64
FURTHER = 5
"""n: the splits after the first that may add something."""


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """FMS@p of one basis, the mean over labels."""

    basis: str
    """The basis' name."""
    kind: str
    """Its kind."""
    p: int
    """How many roots were taken away."""
    fms: float
    """The score; .25 is chance."""
    fms_low: float
    """Lower end of its 95 % interval."""
    fms_high: float
    """Upper end of that interval."""
    accuracy: float
    """Mean acc_0; ½ is chance."""
    local_: float
    """Mean of the local part."""
    global_: float
    """Mean of the global part."""
    by_label: dict[str, float]
    """Each label's score."""
    roots: dict[str, int]
    """Each label's best unit."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


@faster_products()
def isolation(
    bases: Sequence[Basis],
    store: ActivationStore,
    *,
    ps: Sequence[int] = (1, 5),
    windows: int = 4096,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Isolation]:
    """FMS of each basis over every label of a store's documents.

    Args:
        bases: of one site.
        store: whose documents carry the labels.
        ps: how many roots to take away.
        windows: at most so many of each split, chosen by ``seed``.
        seed: governs the choice, ties between splits, and the bootstrap.
        progress: told the rows done.

    Raises:
        ConfigError: a number is below 1, no basis, or bases of several sites.
        DataError: no label has enough documents on both sides.
        UnknownName: no such site.
    """
    if not ps or min(ps) < 1 or windows < 1:
        raise ConfigError(f"p and windows must be at least 1, got {list(ps)} and {windows}")
    examples, labels = examples_of(bases, store, windows, seed)
    found: list[Isolation] = []
    for number, basis in enumerate(bases):
        values = pool(basis, store, examples, Part(progress, number, len(bases)))
        each = {
            label: isolated(values, positive, examples, ps, seed)
            for label, positive in labels.items()
        }
        for place, p in enumerate(ps):
            first = np.stack([parts.accuracy for parts in each.values()])
            local = np.stack([parts.local[place] for parts in each.values()])
            whole = np.stack([parts.whole for parts in each.values()])
            scores = first * (local + whole) / 2
            drawn = np.nanmean(scores[:, 1:], axis=0)  # over the labels that a resample has
            low, high = np.quantile(drawn, [0.025, 0.975]).tolist()
            found.append(
                Isolation(
                    basis=basis.name,
                    kind=basis.kind,
                    p=p,
                    fms=float(scores[:, 0].mean()),
                    fms_low=low,
                    fms_high=high,
                    accuracy=float(first[:, 0].mean()),
                    local_=float(local[:, 0].mean()),
                    global_=float(whole[:, 0].mean()),
                    by_label=dict(zip(each, scores[:, 0].tolist(), strict=True)),
                    roots={label: parts.root for label, parts in each.items()},
                )
            )
    return found


@dataclass(frozen=True)
class Parts:
    """What a label's score is made of: first as measured, then in every resample."""

    root: int
    accuracy: Float64[np.ndarray, " draws"]
    local: Float64[np.ndarray, "ps draws"]
    whole: Float64[np.ndarray, " draws"]


def isolated(
    values: Float32[np.ndarray, "windows units"],
    positive: Bool[np.ndarray, " windows"],
    examples: Examples,
    ps: Sequence[int],
    seed: int,
) -> Parts:
    """The parts of one label's score from the units' values on windows."""
    from sklearn.feature_selection import f_classif
    from sklearn.tree import DecisionTreeClassifier

    train, held = ~examples.heldout, examples.heldout
    varied = np.flatnonzero(np.ptp(values[train], axis=0) > 0)
    with np.errstate(divide="ignore", invalid="ignore"):  # a unit that is the label itself
        strength, _ = f_classif(values[train][:, varied], positive[train])
    units = varied[np.argsort(-np.nan_to_num(strength), kind="stable")[:SCREENED]]
    x, y, fresh = values[train][:, units], positive[train], values[held][:, units]

    def accuracies(splits: int, without: Sequence[int]) -> tuple[int, np.ndarray]:
        """The root's place among the units, and the accuracy of a tree that lacks some."""
        left = np.setdiff1d(np.arange(len(units)), without)
        if not len(left):
            return -1, balanced(np.zeros(held.sum(), bool), positive[held], document, seed)
        tree = DecisionTreeClassifier(
            max_leaf_nodes=splits + 1, class_weight="balanced", random_state=seed
        )
        tree.fit(x[:, left], y)
        root = int(tree.tree_.feature[0])
        said = np.asarray(tree.predict(fresh[:, left]), bool)
        at = int(left[root]) if root >= 0 else -1
        return at, balanced(said, positive[held], document, seed)

    document = examples.document[held]
    best, first = accuracies(1, [])
    gone, without, local = [best], dict[int, np.ndarray](), list[np.ndarray]()
    for p in range(1, max(ps) + 1):
        following, without[p] = accuracies(1, gone)
        gone.append(following)
    local = [2 * (first - without[p]) for p in ps]
    more = np.mean([accuracies(1 + i, [])[1] - first for i in range(1, FURTHER + 1)], axis=0)
    root = int(units[best]) if best >= 0 else -1
    return Parts(root, first, np.stack(local), 1 - more)


def balanced(
    said: Bool[np.ndarray, " n"],
    positive: Bool[np.ndarray, " n"],
    document: Int64[np.ndarray, " n"],
    seed: int,
) -> Float64[np.ndarray, " draws"]:
    """Balanced accuracy, and in every resample of documents; NaN where one lacks a class.

    The resamples of one seed are the same for every label and tree of the same windows.
    """
    names, owner = np.unique(document, return_inverse=True)
    draw = np.random.default_rng([seed, 0xF35])
    weights = draw.multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    weights = np.vstack([np.ones(len(names)), weights])
    rates: list[np.ndarray] = []
    for truth in (True, False):
        there = np.bincount(owner[positive == truth], minlength=len(names))
        hit = (positive == truth) & (said == truth)
        right = np.bincount(owner[hit], minlength=len(names))
        with np.errstate(invalid="ignore"):
            rates.append((weights @ right) / (weights @ there))
    return (rates[0] + rates[1]) / 2
