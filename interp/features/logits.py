"""Tokens that each unit's direction promotes and suppresses: the logit lens on directions.

Two scores come with it. Excess kurtosis of the logit effects over the vocabulary: 0 for a bell
curve, large where few tokens are singled out. Agreement: the AUROC of the effect on the tokens
that follow the unit's active rows, against those that follow random rows on which it is silent; ½
is chance.
"""

from typing import Any, Protocol, no_type_check, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from interp.compiled import compiled
from interp.features.labels import exceeds
from interp.features.sample import Sample, Silent
from interp.features.table_writer import Logits
from interp.sae.kernels.compiled import even, share
from interp.store import ActivationStore, Site

Array = NDArray[Any]

TOKENS = 10
CHUNK = 256
LEAST = 8
"""Following tokens needed on either side."""

SCORES = {
    "logit_kurtosis": "experimental; excess kurtosis of the direction's logit effects over the "
    "vocabulary",
    "logit_agreement": "AUROC of the direction's logit effect on tokens that follow active rows, "
    "against those that follow random silent rows; ½ is chance",
}


@runtime_checkable
class Lens(Protocol):
    """The part of `interp.models.LoadedModel` that is used here."""

    name: str
    digest: str

    def write_directions(
        self, site: Site, directions: Float[Tensor, "n width"]
    ) -> Float[Tensor, "n d_model"] | None:
        """What directions of a site add to the residual stream."""
        ...

    def logit_lens(self, residual: Float[Tensor, "n d_model"]) -> Float[Tensor, "n vocab"]:
        """The effect of residual-stream directions on the logits."""
        ...


class Following:
    """The tokens that follow each unit's active rows and its silent ones."""

    def __init__(self, store: ActivationStore, sample: Sample, silent: Silent) -> None:
        """Look up which rows have a next token: those that do not end their document."""
        self._sample, self._silent, self._tokens = sample, silent, store.tokens
        self._next = np.zeros(store.rows, dtype=bool)
        self._next[:-1] = store.document_index[1:] == store.document_index[:-1]

    def of(self, unit: int) -> tuple[np.ndarray, np.ndarray]:
        """Token ids after active rows and after silent rows."""
        active = self._sample.of(unit)[0]
        silent = self._silent.rows[self._silent.of(self._sample, unit)]
        one, two = (self._tokens[rows[self._next[rows]] + 1] for rows in (active, silent))
        return one.astype(np.int64), two.astype(np.int64)


def logits(
    directions: Float[Tensor, "units width"],
    site: Site,
    model: Lens,
    following: Following,
    vocabulary: int | None = None,
) -> tuple[Logits, dict[str, np.ndarray]] | None:
    """The `TOKENS` most promoted and suppressed tokens of every unit, and the columns of `SCORES`.

    Args:
        directions: of the units.
        site: where they write.
        model: any loaded model.
        following: the tokens after each unit's rows.
        vocabulary: token ids from here on stand for no text and are left out (a model's embedding
            may be padded).

    Returns:
        None where the site does not write to the residual stream linearly.
    """
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    columns = {name: np.full(len(directions), np.nan) for name in SCORES}
    for start in range(0, len(directions), CHUNK):
        written = model.write_directions(site, directions[start : start + CHUNK])
        if written is None:
            return None
        with torch.no_grad():
            effect = model.logit_lens(written).float().numpy(force=True)[:, :vocabulary]
        columns["logit_kurtosis"][start : start + CHUNK] = _kurtosis(effect)
        for unit, line in enumerate(effect, start):
            columns["logit_agreement"][unit] = _agreement(line, *following.of(unit))
        parts.append((*_largest(effect, 1), *_largest(effect, -1)))
    promoted, promoted_value, suppressed, suppressed_value = (
        np.concatenate(arrays) for arrays in zip(*parts, strict=True)
    )
    found = Logits(
        promoted=promoted,
        promoted_value=promoted_value,
        suppressed=suppressed,
        suppressed_value=suppressed_value,
    )
    return found, columns


def _largest(effect: np.ndarray, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and values of each line's `TOKENS` largest (sign 1) or smallest (-1) entries."""
    shape = (len(effect), min(TOKENS, effect.shape[1]))
    places, values = np.zeros(shape, np.int64), np.zeros(shape, np.float32)
    share(_extremes, even(len(effect)), effect, np.float32(sign), places, values)
    return places, values


def _kurtosis(effect: Float[np.ndarray, "units vocab"]) -> Float[np.ndarray, " units"]:
    second, fourth = np.zeros(len(effect)), np.zeros(len(effect))
    share(_central_moments, even(len(effect)), effect, second, fourth)
    with np.errstate(divide="ignore", invalid="ignore"):
        return fourth / second**2 - 3


@compiled
@no_type_check
def _central_moments(first: int, last: int, effect: Array, second: Array, fourth: Array) -> None:
    """Second and fourth central moments of lines ``first`` to ``last``."""
    size = effect.shape[1]
    for unit in range(first, last):
        line, total = effect[unit], 0.0
        for i in range(size):
            total += line[i]
        mean, square, double = total / size, 0.0, 0.0
        for i in range(size):
            apart = (line[i] - mean) * (line[i] - mean)
            square += apart
            double += apart * apart
        second[unit], fourth[unit] = square / size, double / size


@compiled
@no_type_check
def _extremes(
    first: int, last: int, effect: Array, sign: float, places: Array, values: Array
) -> None:
    """The largest entries of ``sign`` times lines ``first`` to ``last``, falling; ties in order."""
    count = places.shape[1]
    for unit in range(first, last):
        line, place, value, filled = effect[unit], places[unit], values[unit], 0
        for i in range(len(line)):
            this = sign * line[i]
            if filled == count and not this > value[count - 1]:
                continue
            at = min(filled, count - 1)
            while at > 0 and this > value[at - 1]:
                value[at], place[at] = value[at - 1], place[at - 1]
                at -= 1
            value[at], place[at] = this, i
            filled = min(filled + 1, count)
        for i in range(count):
            value[i] *= sign


def _agreement(effect: np.ndarray, after: np.ndarray, elsewhere: np.ndarray) -> float:
    if min(len(after), len(elsewhere)) < LEAST:
        return float("nan")
    return exceeds(effect[after], effect[elsewhere])
