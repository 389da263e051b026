"""Teaching a language model one sentence, and watching it learn.

The sentence is a prompt and its last word. Before the first step and after each:

1. The loss on the sentence, its mean cross-entropy; one step of AdamW on it follows.
2. The log-probability of the word and of its rival after the prompt, summed over their tokens.
3. How much the prompt's last token attends to each word before it, averaged over layers and heads;
   what stands before the first word (BOS) is a word of its own.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from interp.errors import DataError
from interp.lab.toys.pupil import Pupil, latents_at, other_text, strongest, text_loss
from interp.progress import Progress, silent
from interp.sae import Dictionary
from interp.store import ActivationStore

START = "start"
"""The word that BOS is."""
MOST, SHOWN = 10, 6


@dataclass(frozen=True)
class Lesson:
    """What is taught: a prompt, the word that follows, and the word that used to."""

    prompt: Sequence[str]
    """Words with the spaces before them."""
    word: str
    rival: str

    def ids(self, pupil: Pupil, word: str = "") -> Int[Tensor, "1 length"]:
        """The prompt, and a word after it."""
        parts = [pupil.encode(each) for each in (*self.prompt, *([word] if word else []))]
        return torch.tensor([[*pupil.start, *(id for part in parts for id in part)]])


@dataclass(frozen=True)
class Look:
    """What is seen at one moment."""

    loss: float
    word: float
    """Log-probability of the word after the prompt."""
    rival: float
    """The same of its rival."""
    attention: dict[str, float]
    """From the prompt's last token to each of its words; they sum to 1."""


def teach(pupil: Pupil, lesson: Lesson, *, steps: int, lr: float) -> Iterator[Look]:
    """Train in place on the sentence, giving a look before the first step and after each.

    Raises:
        DataError: the loss is no number.
    """
    ids = lesson.ids(pupil, lesson.word)
    parameters = [each for each in pupil.module.parameters() if each.is_floating_point()]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0, fused=True)
    yield see(pupil, lesson)
    for step in range(steps):
        loss = cross_entropy(pupil.logits(ids)[0, :-1], ids[0, 1:])
        if not bool(torch.isfinite(loss)):
            raise DataError(f"the loss became {float(loss.detach())} at step {step}; lower the lr")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield see(pupil, lesson)


@dataclass(frozen=True)
class Taught:
    """What a lesson did."""

    looks: list[Look]
    """Before the first step and after each."""
    rise: float
    """Of the loss on other text."""
    concentration: float
    """Share of the latents' movement Σ|Δz| at the prompt's last token that the ten hold that moved
    most."""
    moved: str
    """Those that moved most, in lines: before, after, and where they fire."""


def study(
    pupil: Pupil,
    store: ActivationStore,
    code: Dictionary,
    lesson: Lesson,
    steps: int,
    lr: float,
    progress: Progress = silent,
) -> Taught:
    """Teach in place and compare latents and other text before and after.

    Args:
        pupil: who learns.
        store: activations of the pupil before the lesson; its held-out documents are other text.
        code: a dictionary of them.
        lesson: what is taught.
        steps: of `teach`.
        lr: of `teach`.
        progress: told the steps done.
    """
    prompt, other = lesson.ids(pupil), other_text(pupil, store)
    before, loss = latents_at(pupil, code, prompt), text_loss(pupil, other)
    looks: list[Look] = []
    for look in teach(pupil, lesson, steps=steps, lr=lr):
        looks.append(look)
        progress(len(looks), steps + 1, "one sentence")
    after = latents_at(pupil, code, prompt)
    moves = np.abs(after - before)
    order = np.argsort(-moves, kind="stable")
    share = float(moves[order[:MOST]].sum() / max(moves.sum(), 1e-12))
    words = strongest(store, code, order[:SHOWN])
    lines = [
        f"{before[latent]:7.3f} → {after[latent]:7.3f}  fires on {word}"
        for latent, word in zip(order, words, strict=False)
    ]
    return Taught(looks, text_loss(pupil, other) - loss, share, "\n".join(lines))


@torch.no_grad()
def see(pupil: Pupil, lesson: Lesson) -> Look:
    """See the module."""
    patterns: list[Tensor] = []

    def keep(pattern: Tensor, hook: Any) -> None:
        patterns.append(pattern[0].mean(dim=0))

    ids = lesson.ids(pupil, lesson.word)
    hooked: Any = pupil.module
    with hooked.hooks(fwd_hooks=[(name, keep) for name in pupil.patterns]):
        logits = pupil.logits(ids)[0]
    loss = float(cross_entropy(logits[:-1], ids[0, 1:]))
    last = lesson.ids(pupil).shape[1] - 1
    weights: list[float] = torch.stack(patterns).mean(dim=0)[last, : last + 1].tolist()
    first = len(pupil.start)
    attention = {START: math.fsum(weights[:first])} if first else {}
    for word in lesson.prompt:
        after = first + len(pupil.encode(word))
        attention[word.strip()] = math.fsum(weights[first:after])
        first = after
    word, rival = (log_probability(pupil, lesson, each) for each in (lesson.word, lesson.rival))
    return Look(loss, word, rival, attention)


@torch.no_grad()
def log_probability(pupil: Pupil, lesson: Lesson, word: str) -> float:
    """That the word follows the prompt, summed over its tokens."""
    ids, first = lesson.ids(pupil, word), lesson.ids(pupil).shape[1]
    logs = pupil.logits(ids)[0, first - 1 : -1].log_softmax(dim=-1)
    return float(logs.gather(1, ids[0, first:, None]).sum())
