"""The rows of one sense of a neuron, halved by document, and the latents that carry it.

Carriers are chosen on the first half; the second is for judging them. See
`interp.evaluate.disentangle.disentangle`, steps 2 and 3.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from interp.evaluate.disentangle.ablation import Neuron
from interp.evaluate.disentangle.config import DisentangleConfig
from interp.evaluate.disentangle.contributions import Contributions, contributions
from interp.evaluate.disentangle.rows import NONE
from interp.features.bases import DictionaryBasis
from interp.store import ActivationStore

LEAST_DOCUMENTS = 4
"""A sense found in fewer documents is not judged: two on either side."""


@dataclass(frozen=True)
class Group:
    """The rows of one sense."""

    number: int
    rows: Int64[np.ndarray, " n"]
    x: Float32[np.ndarray, "n width"]
    parts: Contributions
    carriers: Int64[np.ndarray, " carriers"]
    judged: Int64[np.ndarray, " m"]
    """Places of the second half among the rows."""


def sense_group(
    number: int,
    rows: Int64[np.ndarray, " n"],
    basis: DictionaryBasis,
    store: ActivationStore,
    neuron: Neuron,
    config: DisentangleConfig,
) -> Group:
    """Take the rows of a sense apart, choose its carriers and leave the second half to judge."""
    x = store.take(basis.site, rows)
    parts = contributions(basis, x, neuron.index, neuron.sign)
    # Whole documents, in random order, go by turns to either half.
    documents = np.unique(store.document_index[rows])
    draw = np.random.default_rng([config.seed, 0x4A1F, number + 1]).permutation(documents)
    second = np.isin(store.document_index[rows], draw[1::2])
    if number == NONE or len(documents) < LEAST_DOCUMENTS:
        return Group(number, rows, x, parts, np.zeros(0, np.int64), np.zeros(0, np.int64))
    carriers = _carriers(parts, np.flatnonzero(~second), config)
    return Group(number, rows, x, parts, carriers, np.flatnonzero(second))


def _carriers(
    parts: Contributions, rows: Int64[np.ndarray, " n"], config: DisentangleConfig
) -> Int64[np.ndarray, " carriers"]:
    mean: Float64[np.ndarray, " m"] = parts.each[rows].mean(axis=0)
    order = np.argsort(-mean, kind="stable")[: config.carriers]
    order = order[mean[order] > 0]
    reached = np.cumsum(mean[order]) >= config.share * parts.activation[rows].mean()
    enough = int(reached.argmax()) + 1 if reached.any() else len(order)
    return parts.latents[order[:enough]].astype(np.int64)
