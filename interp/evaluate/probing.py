"""Sparse probing: can a label of the text be read from k units alone?

Gurnee et al. 2023, "Finding Neurons in a Haystack: Case Studies with Sparse Probing", 2305.01610,
with the labels of the documents (domain, language), each against all others:

1. A unit's value on a window is its mean activation over the window's rows, sinks left out.
2. The k units of greatest |difference of means|, windows with the label against the others, among
   windows of training documents.
3. Logistic regression on these k, each scaled to unit spread, classes weighted to balance, on the
   same windows.
4. Balanced accuracy (at ½) and AUROC on windows of held-out documents. 95 % intervals resample
   held-out documents: windows of one document are no independent evidence. A resample without both
   classes is left out.

A label is probed if at least ``LEAST`` training and ``LEAST`` held-out documents have it and as
many have not. With so few documents the intervals are too short: on noise, with 5 of 15 held-out
documents having the label, the AUROC's held ½ in 88 % of 120 probes. One figure depends on every
choice made here: compare bases, not papers.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64

from interp.errors import ConfigError, DataError
from interp.features.bases import Basis
from interp.products import faster_products
from interp.progress import Part, Progress, silent
from interp.store import ActivationStore

FIELDS = ("domain", "language")
LEAST = 3
DRAWS = 1000
BATCH = 2048


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One label read from k units of one basis."""

    basis: str
    """The basis' name."""
    kind: str
    """Its kind."""
    label: str
    """``domain=code`` or ``language=en``."""
    k: int
    """How many units were allowed."""
    units: tuple[int, ...]
    """Which were chosen, the greatest difference of means first."""
    balanced_accuracy: float
    """Mean of the two classes' accuracies; ½ is chance."""
    balanced_accuracy_low: float
    """Lower end of its 95 % interval."""
    balanced_accuracy_high: float
    """Upper end of that interval."""
    auroc: float
    """Probability that a window with the label scores higher than one without; ½ is chance."""
    auroc_low: float
    """Lower end of its 95 % interval."""
    auroc_high: float
    """Upper end of that interval."""
    documents: int
    """Held-out documents with the label."""
    others: int
    """Held-out documents without."""
    windows: int
    """Held-out windows in all."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Examples:
    """The windows that are probed, a seeded choice of each split."""

    of_row: Int64[np.ndarray, " rows"]
    """The window of each row of the store, -1 for rows in none."""
    document: Int64[np.ndarray, " windows"]
    heldout: Bool[np.ndarray, " windows"]
    rows: Int64[np.ndarray, " windows"]
    """How many rows each has."""


@faster_products()
def probe(
    bases: Sequence[Basis],
    store: ActivationStore,
    *,
    ks: Sequence[int] = (1, 5),
    windows: int = 4096,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Probe]:
    """Probe every label of a store's documents with k units of each basis.

    Args:
        bases: of one site.
        store: whose documents carry the labels.
        ks: how many units a probe may use.
        windows: at most so many of each split, chosen by ``seed``.
        seed: governs the choice and the bootstrap.
        progress: told the rows done.

    Raises:
        ConfigError: a number is below 1, no basis, or bases of several sites.
        DataError: no label has enough documents on both sides.
        UnknownName: no such site.
    """
    if not ks or min(ks) < 1 or windows < 1:
        raise ConfigError(f"k and windows must be at least 1, got {list(ks)} and {windows}")
    examples, labels = examples_of(bases, store, windows, seed)
    found: list[Probe] = []
    for number, basis in enumerate(bases):
        values = pool(basis, store, examples, Part(progress, number, len(bases)))
        for label, positive in labels.items():
            for k in ks:
                found.append(_probe(basis, values, label, positive, examples, k, seed))
    return found


def examples_of(
    bases: Sequence[Basis], store: ActivationStore, windows: int, seed: int
) -> tuple[Examples, dict[str, Bool[np.ndarray, " windows"]]]:
    """The windows on which bases are compared, and which of them have each label.

    Raises:
        ConfigError: no basis, or bases of several sites.
        DataError: no label has enough documents on both sides.
    """
    if len({basis.site for basis in bases}) != 1:
        raise ConfigError("probing compares bases of one site; give at least one, and of one only")
    examples = choose(store, windows, seed)
    labels = labels_of(store, examples)
    if not labels:
        raise DataError(
            f"no domain or language of store {store.name} is that of {LEAST} training and {LEAST} "
            "held-out documents with as many of another; capture more documents"
        )
    return examples, labels


def choose(store: ActivationStore, windows: int, seed: int) -> Examples:
    """The windows to probe: runs of rows of one document whose positions follow on."""
    position = store.positions.astype(np.int64)
    document = store.document_index.astype(np.int64)
    follows = (np.diff(position) == 1) & (np.diff(document) == 0)
    window = np.cumsum(np.r_[False, ~follows])
    usable = ~store.sinks
    count = np.bincount(window[usable], minlength=int(window[-1]) + 1)
    first = np.r_[0, np.flatnonzero(~follows) + 1]
    draw = np.random.default_rng([seed, 0x9B0BE])
    kept: list[np.ndarray] = []
    for split in (False, True):
        there = np.flatnonzero((count > 0) & (store.heldout[first] == split))
        size = min(windows, len(there))
        kept.append(np.sort(draw.choice(there, size=size, replace=False)))
    chosen = np.sort(np.concatenate(kept))
    number = np.full(len(count), -1)
    number[chosen] = np.arange(len(chosen))
    return Examples(
        of_row=np.where(usable, number[window], -1),
        document=document[first[chosen]],
        heldout=store.heldout[first[chosen]],
        rows=count[chosen],
    )


@torch.inference_mode()
def pool(
    basis: Basis, store: ActivationStore, examples: Examples, progress: Progress = silent
) -> Float32[np.ndarray, "windows units"]:
    """Mean activation of each unit over the rows of each window."""
    sums = torch.zeros(len(examples.document), basis.n_units)
    for rows, block in store.blocks(basis.site, sinks=False):
        window = examples.of_row[rows]
        used = np.flatnonzero(window >= 0)
        for start in range(0, len(used), BATCH):
            some = used[start : start + BATCH]
            z = basis.encode(torch.from_numpy(block[some]).float()).float().cpu()
            sums.index_add_(0, torch.from_numpy(window[some]), z)
        progress(int(rows[-1]) + 1, store.rows, f"probing {basis.name}")
    return sums.numpy() / examples.rows[:, None].astype(np.float32)


def labels_of(
    store: ActivationStore, examples: Examples, fields: Sequence[str] = FIELDS
) -> dict[str, Bool[np.ndarray, " windows"]]:
    """Which windows have each label that can be probed."""
    found: dict[str, np.ndarray] = {}
    for field in fields:
        of_document = np.array([str(getattr(each, field)) for each in store.documents])
        of_window = of_document[examples.document]
        for name in np.unique(of_window):
            positive = of_window == name
            sides = [
                len(np.unique(examples.document[(examples.heldout == split) & (positive == side)]))
                for split in (False, True)
                for side in (False, True)
            ]
            if min(sides) >= LEAST:
                found[f"{field}={name}"] = positive
    return found


def _probe(
    basis: Basis,
    values: Float32[np.ndarray, "windows units"],
    label: str,
    positive: Bool[np.ndarray, " windows"],
    examples: Examples,
    k: int,
    seed: int,
) -> Probe:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, held = ~examples.heldout, examples.heldout
    x, y = values[train], positive[train]
    difference = np.abs(x[y].mean(axis=0) - x[~y].mean(axis=0))
    units = np.argsort(-difference, kind="stable")[:k]
    model = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    )
    model.fit(x[:, units].astype(np.float64), y)
    score = model.decision_function(values[held][:, units].astype(np.float64))
    accuracy, auroc = judge(score, positive[held], examples.document[held], seed)
    return Probe(
        basis=basis.name,
        kind=basis.kind,
        label=label,
        k=k,
        units=tuple(units.tolist()),
        balanced_accuracy=accuracy[0],
        balanced_accuracy_low=accuracy[1],
        balanced_accuracy_high=accuracy[2],
        auroc=auroc[0],
        auroc_low=auroc[1],
        auroc_high=auroc[2],
        documents=len(np.unique(examples.document[held & positive])),
        others=len(np.unique(examples.document[held & ~positive])),
        windows=int(held.sum()),
    )


Interval = tuple[float, float, float]
"""Estimate, lower and upper end."""


def judge(
    score: Float64[np.ndarray, " n"],
    positive: Bool[np.ndarray, " n"],
    document: Int64[np.ndarray, " n"],
    seed: int,
) -> tuple[Interval, Interval]:
    """Balanced accuracy at 0 and AUROC of scores, with intervals over documents.

    A document drawn w times has all its windows w times; the pairs behind the AUROC are counted
    once for each pair of documents, so a resample costs a small product.
    """
    names, owner = np.unique(document, return_inverse=True)
    one_hot = np.eye(len(names))[owner]
    yes, no = one_hot[positive], one_hot[~positive]
    higher = (score[positive][:, None] > score[~positive]) + 0.5 * (
        score[positive][:, None] == score[~positive]
    )
    pairs = yes.T @ higher @ no
    size = np.stack([yes.sum(axis=0), no.sum(axis=0)])
    right = np.stack([yes.T @ (score[positive] > 0), no.T @ (score[~positive] <= 0)])
    draw = np.random.default_rng([seed, 0xB007])
    weights = draw.multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    weights = np.vstack([np.ones(len(names)), weights])  # the first is the sample itself
    there = weights @ size.T
    both = (there > 0).all(axis=1)
    weights, there = weights[both], there[both]
    accuracy = (weights @ right.T / there).mean(axis=1)
    auroc = np.einsum("dp,pn,dn->d", weights, pairs, weights, optimize=True) / there.prod(axis=1)
    return _interval(accuracy), _interval(auroc)


def _interval(values: Float64[np.ndarray, " draws"]) -> Interval:
    low, high = np.quantile(values[1:], [0.025, 0.975]).tolist()
    return float(values[0]), low, high
