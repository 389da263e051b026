"""Tokens that each unit's direction promotes and suppresses: the logit lens on directions.

Two scores come with it. Excess kurtosis of the logit effects over the vocabulary: 0 for a bell
curve, large where few tokens are singled out. Agreement: the AUROC of the effect on the tokens
that follow the unit's active rows, against those that follow random rows on which it is silent; ½
is chance.
"""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.features.bases import Basis
from interp.features.labels import exceeds
from interp.features.sample import Sample, Silent
from interp.features.table_writer import Logits
from interp.store import ActivationStore, Site

TOKENS = 10
CHUNK = 256
LEAST = 8
"""Following tokens needed on either side."""

SCORES = {
    "logit_kurtosis": "excess kurtosis of the direction's logit effects over the vocabulary",
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
    basis: Basis, site: Site, model: Lens, following: Following, vocabulary: int | None = None
) -> tuple[Logits, dict[str, np.ndarray]] | None:
    """The `TOKENS` most promoted and suppressed tokens of every unit, and the columns of `SCORES`.

    Args:
        basis: whose directions.
        site: where they write.
        model: any loaded model.
        following: the tokens after each unit's rows.
        vocabulary: token ids from here on stand for no text and are left out (a model's embedding
            may be padded).

    Returns:
        None where the site does not write to the residual stream linearly.
    """
    directions = basis.directions()
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    columns = {name: np.full(len(directions), np.nan) for name in SCORES}
    for start in range(0, len(directions), CHUNK):
        written = model.write_directions(site, directions[start : start + CHUNK])
        if written is None:
            return None
        with torch.no_grad():
            effect = model.logit_lens(written).detach().float().cpu()[:, :vocabulary]
        columns["logit_kurtosis"][start : start + CHUNK] = _kurtosis(effect.numpy())
        for unit, line in enumerate(effect.numpy(), start):
            columns["logit_agreement"][unit] = _agreement(line, *following.of(unit))
        count = min(TOKENS, effect.shape[1])
        up, down = effect.topk(count, dim=1), effect.topk(count, dim=1, largest=False)
        parts.append(
            (up.indices.numpy(), up.values.numpy(), down.indices.numpy(), down.values.numpy())
        )
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


def _kurtosis(effect: Float[np.ndarray, "units vocab"]) -> Float[np.ndarray, " units"]:
    square = np.square(effect - effect.mean(axis=1, keepdims=True, dtype=np.float64))
    variance = square.mean(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.square(square).mean(axis=1) / variance**2 - 3


def _agreement(effect: np.ndarray, after: np.ndarray, elsewhere: np.ndarray) -> float:
    if min(len(after), len(elsewhere)) < LEAST:
        return float("nan")
    return exceeds(effect[after], effect[elsewhere])
