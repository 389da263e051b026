"""Targeted probe perturbation: does removing a label's units unlearn that label and no other?

Karvonen et al. 2025, "SAEBench", 2503.09532, after Marks et al. 2024, "Sparse Feature Circuits",
2403.19647; here with the labels of the documents, each against all others:

1. A window is the mean of its rows, sinks left out; a probe for each label is a logistic regression
   on the site itself, each coordinate scaled to unit spread, on windows of training documents.
2. Unit j matters for label i by how much more active it is on windows with the label, times how far
   its direction moves the probe: (E[z_j | i] - E[z_j | not i]) · (w_i · d_j). The n units of the
   largest product are the label's.
3. They are removed, x - Σ_j z_j d_j over them, which leaves the dictionary's error alone; as both
   sides are linear, the means of windows are enough.
4. With A_i the balanced accuracy of probe i on windows of held-out documents and A_{m,i} that after
   the units of label m are removed

       TPP = mean_i (A_i - A_{i,i})  -  mean_{i≠m} (A_i - A_{m,i})

   which is ½ where removing a label's units leaves its probe at chance and every other as it was,
   and 0 where units are no more a label's than another's. 95 % intervals resample the documents.

**Do not rank dictionaries by it.** In an audit of SAEBench's form it changed by 39 % of itself from
seed to seed at n = 10, and no audit of this one exists. Differences between a basis and its random
control are what it is for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from interp.errors import ConfigError, DataError
from interp.evaluate.probing import DRAWS, LEAST, Examples, choose, labels_of, pool
from interp.features.bases import Basis, NeuronBasis, written_site
from interp.products import faster_products
from interp.progress import Part, Progress, silent
from interp.store import ActivationStore


@dataclass(frozen=True, kw_only=True)
class Perturbation:
    """What removing n units a label does to the probes; the module's docstring has the formula."""

    basis: str
    """The basis' name."""
    kind: str
    """Its kind."""
    n: int
    """Units removed for each label."""
    tpp: float
    """Drop of the label's own probe less that of the others."""
    tpp_low: float
    """Lower end of its 95 % interval."""
    tpp_high: float
    """Upper end of that interval."""
    own: float
    """Mean drop of balanced accuracy of a label's own probe."""
    others: float
    """Mean drop of the others'."""
    labels: tuple[str, ...]
    """Which labels."""
    accuracy: float
    """Mean balanced accuracy of the probes before."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class LinearProbe:
    """w · x + b, positive where the label is read."""

    weight: Float64[np.ndarray, " width"]
    bias: float

    def score(self, x: Float64[np.ndarray, "n width"]) -> Float64[np.ndarray, " n"]:
        """Of windows."""
        return x @ self.weight + self.bias


@faster_products()
def perturb(
    bases: Sequence[Basis],
    store: ActivationStore,
    *,
    ns: Sequence[int] = (2, 10, 50),
    windows: int = 4096,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Perturbation]:
    """TPP of each basis, for each number of units.

    Args:
        bases: of one site, which they also write.
        store: whose documents carry the labels.
        ns: how many units to remove for a label; at most all.
        windows: at most so many of each split, chosen by ``seed``.
        seed: governs the choice and the bootstrap.
        progress: told the rows done.

    Raises:
        ConfigError: a number is below 1, no basis, bases of several sites, or a transcoder.
        DataError: fewer than two labels have enough documents on both sides.
        UnknownName: no such site.
    """
    check_removable(bases, ns, windows)
    examples = choose(store, windows, seed)
    labels = labels_of(store, examples, fields=("domain",))
    if len(labels) < 2:
        raise DataError(
            f"store {store.name} has fewer than two domains with {LEAST} training and {LEAST} "
            "held-out documents; capture more documents"
        )
    x = window_means(bases[0].site, store, examples, Part(progress, 0, len(bases) + 1))
    train = ~examples.heldout
    probes = {name: fit_probe(x[train], positive[train]) for name, positive in labels.items()}
    found: list[Perturbation] = []
    for number, basis in enumerate(bases, 1):
        z = pool(basis, store, examples, Part(progress, number, len(bases) + 1))
        directions = basis.directions().float().cpu().numpy()
        found += [_one(basis, n, x, z, directions, probes, labels, examples, seed) for n in ns]
    return found


def check_removable(bases: Sequence[Basis], ns: Sequence[int], windows: int) -> None:
    """Refuse what no units can be removed from.

    Raises:
        ConfigError: a number is below 1, no basis, bases of several sites, or a transcoder.
    """
    if not ns or min(ns) < 1 or windows < 1:
        raise ConfigError(f"n and windows must be at least 1, got {list(ns)} and {windows}")
    if len({basis.site for basis in bases}) != 1:
        raise ConfigError("units are removed from one site; give at least one basis, of one only")
    for basis in bases:
        if written_site(basis) != basis.site:
            raise ConfigError(
                f"{basis.name} reads {basis.site} and writes {written_site(basis)}, so none of its "
                "units can be removed where it reads; leave it out"
            )


def window_means(
    site: str, store: ActivationStore, examples: Examples, progress: Progress
) -> Float64[np.ndarray, "windows width"]:
    """The mean of each window's rows at a site."""
    neurons = NeuronBasis(site, store.site(site).width, signed=True)
    sides = pool(neurons, store, examples, progress)
    return (sides[:, 0::2] - sides[:, 1::2]).astype(np.float64)


def fit_probe(
    x: Float64[np.ndarray, "n width"],
    y: Bool[np.ndarray, " n"],
    weight: Float64[np.ndarray, " n"] | None = None,
) -> LinearProbe:
    """Logistic regression on coordinates of unit spread; both classes count alike by default."""
    from sklearn.linear_model import LogisticRegression

    spread = x.std(axis=0)
    spread[spread == 0] = 1
    model = LogisticRegression(class_weight="balanced" if weight is None else None, max_iter=1000)
    model.fit((x - x.mean(axis=0)) / spread, y, sample_weight=weight)
    found, bias = np.asarray(model.coef_)[0] / spread, float(np.asarray(model.intercept_)[0])
    return LinearProbe(found, bias - float(found @ x.mean(axis=0)))


def _one(
    basis: Basis,
    n: int,
    x: Float64[np.ndarray, "windows width"],
    z: Float32[np.ndarray, "windows units"],
    directions: Float32[np.ndarray, "units width"],
    probes: Mapping[str, LinearProbe],
    labels: Mapping[str, Bool[np.ndarray, " windows"]],
    examples: Examples,
    seed: int,
) -> Perturbation:
    held, train = examples.heldout, ~examples.heldout
    names = list(labels)
    right = np.empty((1 + len(names), len(names), int(held.sum())), bool)

    def judge(into: int, rows: Float64[np.ndarray, "held width"]) -> None:
        for column, name in enumerate(names):
            right[into, column] = (probes[name].score(rows) > 0) == labels[name][held]

    judge(0, x[held])
    for number, name in enumerate(names, 1):
        units = chosen(z[train], directions, labels[name][train], probes[name].weight, n)
        judge(number, x[held] - z[held][:, units].astype(np.float64) @ directions[units])
    positive = np.stack([labels[name][held] for name in names])
    document = examples.document[held]
    drawn = _drops(right, positive, document, seed)
    size = len(names)
    own = drawn[:, np.arange(size), np.arange(size)].mean(axis=1)
    others = (drawn.sum(axis=(1, 2)) - own * size) / (size * (size - 1))
    low, high = np.quantile((own - others)[1:], [0.025, 0.975]).tolist()
    return Perturbation(
        basis=basis.name,
        kind=basis.kind,
        n=n,
        tpp=float(own[0] - others[0]),
        tpp_low=low,
        tpp_high=high,
        own=float(own[0]),
        others=float(others[0]),
        labels=tuple(names),
        accuracy=float(np.mean([_balanced(r, p) for r, p in zip(right[0], positive, strict=True)])),
    )


def chosen(
    z: Float32[np.ndarray, "n units"],
    directions: Float32[np.ndarray, "units width"],
    positive: Bool[np.ndarray, " n"],
    weight: Float64[np.ndarray, " width"],
    n: int,
) -> Int64[np.ndarray, " chosen"]:
    """The units that matter most for a label, step 2; fewer where fewer products are positive."""
    more = z[positive].mean(axis=0, dtype=np.float64) - z[~positive].mean(axis=0, dtype=np.float64)
    return largest(more * (directions @ weight), n)


def largest(product: Float64[np.ndarray, " units"], n: int) -> Int64[np.ndarray, " chosen"]:
    """The n largest of what is positive, the largest first."""
    units = np.argsort(-product, kind="stable")[:n]
    return units[product[units] > 0]


def _balanced(right: Bool[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    return float((right[positive].mean() + right[~positive].mean()) / 2)


def _drops(
    right: Bool[np.ndarray, "variants labels n"],
    positive: Bool[np.ndarray, "labels n"],
    document: Int64[np.ndarray, " n"],
    seed: int,
) -> Float64[np.ndarray, "draws labels labels"]:
    """Drop of each label's balanced accuracy (last axis) when each label's units are removed.

    The first draw is the sample itself, the others resample documents; those that lack a class of
    some label are left out.
    """
    documents, owner = np.unique(document, return_inverse=True)
    one_hot = np.eye(len(documents))[owner]
    draw = np.random.default_rng([seed, 0x799])
    weights = draw.multinomial(
        len(documents), np.full(len(documents), 1 / len(documents)), size=DRAWS
    )
    weights = np.vstack([np.ones(len(documents)), weights])
    accuracy = 0.0
    kept = np.ones(len(weights), bool)
    for side in (positive, ~positive):
        there = weights @ (side @ one_hot).T  # [draws, labels]
        hits = np.einsum("vln,nd->vld", right & side, one_hot, optimize=True)
        kept &= (there > 0).all(axis=1)
        share = np.einsum("wd,vld->wvl", weights, hits, optimize=True)
        accuracy = accuracy + share / np.maximum(there, 1)[:, None] / 2
    accuracy = np.asarray(accuracy)[kept]
    return accuracy[:, :1] - accuracy[:, 1:]
