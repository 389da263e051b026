"""How much of neurons' variance the class of a character explains, with a bootstrap interval.

For one neuron with activations a and classes c, Fisher's correlation ratio

    η² = Σ_c n_c (μ_c - μ)² / Σ (a - μ)²

lies between 0 and 1. The structure of a layer is the mean of η² over its neurons less the same
under shuffled classes.

1. Counts and sums by passage and class, for the true classes and the shuffled ones.
2. A bootstrap replicate draws passages with replacement and adds up what they hold; all layers get
   the same draws, so that differences between layers have an interval of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from einops import einsum
from jaxtyping import Float, Float32, Int, Int64

from interp.lab.toys.alphabet import ALPHABET
from interp.store import ActivationStore

REPLICATES = 500
CLASSES = ("vowel", "consonant", "capital", "space", "line break", "digit", "other")


@dataclass(frozen=True)
class Structure:
    """Of each layer in turn, and what the last has beyond the first."""

    mean: list[float]
    low: list[float]
    high: list[float]
    gain_low: float
    """Lower end of the 95 % interval of the last layer's structure less the first's."""


def character_classes() -> Int64[np.ndarray, " characters"]:
    """The class of every character of the alphabet, a number in `CLASSES`."""

    def name(character: str) -> str:
        if character in "aeiou":
            return "vowel"
        if character.isalpha():
            return "capital" if character.isupper() else "consonant"
        if character.isdigit():
            return "digit"
        return {" ": "space", "\n": "line break"}.get(character, "other")

    return np.array([CLASSES.index(name(character)) for character in ALPHABET])


def structure(
    layers: Sequence[Float32[np.ndarray, "rows neurons"]], store: ActivationStore, seed: int
) -> dict[str, Structure]:
    """The structure of layers on a store's rows, by the class of the character read and the next.

    Args:
        layers: activations of all rows.
        store: says the rows' characters and passages; a passage's last row has no next one.
        seed: governs shuffling and drawing.
    """
    classes = character_classes()[store.tokens.astype(np.int64)]
    passage = store.document_index.astype(np.int64)
    draw = np.random.default_rng([seed, 0x57C])
    count = int(passage.max()) + 1
    draws = draw.multinomial(count, np.full(count, 1 / count), size=REPLICATES)
    weights = np.concatenate([np.ones((1, count)), draws])
    inner = np.flatnonzero(passage[1:] == passage[:-1])
    found: dict[str, Structure] = {}
    for by, rows, labels in (
        ("character", np.arange(len(classes)), classes),
        ("next", inner, classes[inner + 1]),
    ):
        shuffled = draw.permutation(labels)
        values = np.stack(
            [
                explained(layer[rows], labels, passage[rows], weights)
                - explained(layer[rows], shuffled, passage[rows], weights)
                for layer in layers
            ]
        )
        low, high = np.quantile(values[:, 1:], [0.025, 0.975], axis=1)
        gain = np.quantile(values[-1, 1:] - values[0, 1:], 0.025)
        found[by] = Structure(values[:, 0].tolist(), low.tolist(), high.tolist(), float(gain))
    return found


def explained(
    values: Float[np.ndarray, "rows neurons"],
    labels: Int[np.ndarray, " rows"],
    passage: Int[np.ndarray, " rows"],
    weights: Float[np.ndarray, "replicates passages"],
) -> Float[np.ndarray, " replicates"]:
    """The mean η² of neurons that vary, for each weighting of the passages.

    Args:
        values: activations.
        labels: each row's class, from 0 to the number of classes less 1.
        passage: each row's passage.
        weights: how often each passage counts.
    """
    kinds, passages = int(labels.max()) + 1, weights.shape[1]
    group = passage * kinds + labels
    order = np.argsort(group, kind="stable")
    present, first = np.unique(group[order], return_index=True)
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    shape = (passages * kinds, values.shape[1])
    sums, squares = np.zeros(shape), np.zeros(shape)
    sums[present] = np.add.reduceat(centred[order], first, axis=0)
    squares[present] = np.add.reduceat(np.square(centred[order]), first, axis=0)
    counts = np.bincount(group, minlength=len(sums)).reshape(passages, kinds)
    n = weights @ counts
    by_class = einsum(
        weights,
        sums.reshape(passages, kinds, -1),
        "replicate passage, passage kind neuron -> replicate kind neuron",
    )
    square = weights @ squares.reshape(passages, kinds, -1).sum(axis=1)
    total = n.sum(axis=1)[:, None]
    around = np.square(by_class.sum(axis=1)) / total
    between = (np.square(by_class) / np.maximum(n, 1)[..., None]).sum(axis=1) - around
    spread = square - around
    share = np.where(spread > 1e-9 * total, between / np.maximum(spread, 1e-300), np.nan)
    return np.nanmean(share, axis=1)
