"""A prompt as the model reads it, and the tokens it may go on with."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from interp.errors import ConfigError, DataError
from interp.evaluate.causal.intervene import UNCHANGED
from interp.models import LoadedModel


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token that the prompt may go on with."""

    token: int
    """Its id."""
    text: str
    probability: float
    """The model's, after the prompt."""
    logit: float


def window(model: LoadedModel, prompt: str) -> Int[Tensor, " length"]:
    """A prompt as the model reads it.

    Raises:
        ConfigError: the model reads no text.
        DataError: the prompt is empty, a single token without BOS, or too long.
    """
    if model.tokenizer is None:
        raise ConfigError(f"{model.name} reads no text: it has no tokenizer")
    start = [] if model.tokenizer.bos is None else [model.tokenizer.bos]
    ids = start + (model.tokenizer.encode(prompt) if prompt.strip() else [])
    if len(ids) <= UNCHANGED:
        raise DataError("the prompt is too short to trace; write a few words")
    if len(ids) > model.n_ctx:
        raise DataError(
            f"the prompt has {len(ids):,} tokens and {model.name} reads {model.n_ctx:,}; shorten it"
        )
    return torch.tensor(ids, device=model.device)


def single(model: LoadedModel, word: str) -> int:
    """The id of a text that is one token, spaces included.

    Raises:
        ConfigError: it is none or several; names the tokens, and the text with a space before it
            where that is one.
    """
    assert model.tokenizer is not None  # `window` has been there
    ids = model.tokenizer.encode(word)
    if len(ids) == 1:
        return ids[0]
    pieces = " ".join(f"'{text_of(model, each)}'" for each in ids) or "none"
    spaced = len(model.tokenizer.encode(f" {word}")) == 1
    remedy = f"' {word}' with a space before it is one" if spaced else "name one of them"
    raise ConfigError(f"{word!r} is {len(ids)} tokens of {model.name} ({pieces}); {remedy}")


@torch.no_grad()
def compared(
    model: LoadedModel, ids: Int[Tensor, " length"], token: str | None, baseline: str | None
) -> tuple[Token, Token]:
    """The token that is explained and its baseline, by name or the likeliest.

    Raises:
        ConfigError: a name is not one token, or both are the same.
    """
    named = [None if word is None else single(model, word) for word in (token, baseline)]
    if None not in named and named[0] == named[1]:
        raise ConfigError(f"{token!r} is the token and its own baseline; choose another baseline")
    logits = model.forward(ids[None])[0, -1].float()
    likeliest: list[int] = logits.topk(min(3, len(logits))).indices.tolist()
    first = named[0] if named[0] is not None else next(t for t in likeliest if t != named[1])
    second = named[1] if named[1] is not None else next(t for t in likeliest if t != first)
    share = logits.softmax(dim=0)
    one, other = (
        Token(
            token=each,
            text=text_of(model, each),
            probability=float(share[each]),
            logit=float(logits[each]),
        )
        for each in (first, second)
    )
    return one, other


def text_of(model: LoadedModel, token: int) -> str:
    """A token's text."""
    assert model.tokenizer is not None  # `window` has been there
    return model.tokenizer.decode([token])
