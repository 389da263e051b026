"""A unit changed while the model reads a text of one's own. Needs the model, so it needs torch.

Imported by *Intervene* only, and there only once it has something to compute.
"""

from dataclasses import dataclass

import torch

from interp.errors import ConfigError, DataError
from interp.evaluate.causal import (
    Effect,
    Intervention,
    changed,
    continuations,
    control,
    effect,
    part,
    unchanged,
)
from interp.features.bases import Basis
from interp.models import LoadedModel
from interp.store import ActivationStore

LONGEST = 256
"""Tokens of a text of one's own: every figure on it costs a forward pass."""
SEEDS = 5
"""Random directions to compare with."""


@dataclass(frozen=True)
class Asked:
    """What is tried; hashable, so that a page drawn again need not run the model again."""

    unit: int
    text: str
    intervention: Intervention
    steps: int
    """Tokens to write."""


@dataclass(frozen=True)
class Trial:
    """What came of it."""

    effect: Effect
    first: int
    """Position of the text's first token: 1 behind a BOS token."""
    pieces: list[str]
    """The text's tokens as read, from `first` on."""
    active: list[float]
    """The unit's activation on each of them, unchanged."""
    written: tuple[str, str, str]
    """What the model writes: as it is, with the unit changed, with a random push."""


def run(model: LoadedModel, store: ActivationStore, basis: Basis, asked: Asked) -> Trial:
    """Try an intervention on a text.

    Raises:
        ConfigError: the model reads no text or predicts none, the basis cannot be changed, or the
            text is too long.
        DataError: the text holds too few tokens.
    """
    if model.tokenizer is None:
        raise ConfigError(f"{model.name} reads no text: it has no tokenizer")
    ids = model.tokenizer.encode(asked.text)
    start = [] if store.manifest.bos is None else [store.manifest.bos]
    room = min(LONGEST, model.n_ctx - len(start) - asked.steps + 1)
    if len(start) + len(ids) < 2:
        raise DataError("the text is too short to see an effect; write a few words")
    if len(ids) > room:
        raise ConfigError(
            f"the text has {len(ids):,} tokens, and with {asked.steps} to write at most {room:,} "
            f"fit; shorten it by {len(ids) - room:,}. Nothing was cut off silently"
        )
    unit, tokens = part(model, basis, asked.unit), torch.tensor(start + ids)
    found = effect(model, unit, asked.intervention, tokens, seeds=SEEDS)
    changes = [
        unchanged,
        changed(unit, asked.intervention),
        control(unit, asked.intervention, 0),
    ]
    written = continuations(model, unit.site, changes, tokens, steps=asked.steps)
    x = model.activations(tokens[None].to(model.device), [unit.site])[unit.site.name][0]
    return Trial(
        effect=found,
        first=len(start),
        pieces=store.vocabulary.pieces(ids),
        active=unit.activation(x.float())[len(start) :].tolist(),
        written=(
            store.vocabulary.text(written[0]),
            store.vocabulary.text(written[1]),
            store.vocabulary.text(written[2]),
        ),
    )
