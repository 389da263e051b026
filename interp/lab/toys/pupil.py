"""A language model as it is taught one sentence: a loaded model or a character model, one face."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from interp.errors import ConfigError, DataError
from interp.lab.toys import alphabet
from interp.lab.toys.characters import CharacterModel
from interp.models import LoadedModel, wrap_module
from interp.sae import Dictionary
from interp.store import ActivationStore

_PATTERN = "hook_pattern"


@dataclass(frozen=True)
class Pupil:
    """A language model of either kind, as it is taught here."""

    name: str
    module: nn.Module
    """Whose parameters learn and whose attention patterns are read."""
    start: list[int]
    """What stands before every text: BOS, or nothing."""
    encode: Callable[[str], list[int]]
    """Text to ids."""
    logits: Callable[[Int[Tensor, "batch length"]], Float[Tensor, "batch length vocabulary"]]
    states: Callable[[Int[Tensor, "1 length"]], Float[Tensor, "length width"]]
    """The site at which latents are read."""

    @property
    def patterns(self) -> list[str]:
        """The hooks of attention patterns, layer by layer."""
        hooked: Any = self.module  # both kinds list their hooks alike
        return [name for name in hooked.hook_dict if name.endswith(_PATTERN)]


def of_model(model: LoadedModel, site: str) -> Pupil:
    """A loaded model that reads text.

    Raises:
        ConfigError: it has no tokenizer.
        UnknownName: it has no such site.
    """
    tokenizer, place = model.tokenizer, model.site(site)
    if tokenizer is None:
        raise ConfigError(f"{model.name} has no tokenizer, so it cannot be taught a sentence")
    return Pupil(
        model.name,
        model.bridge,
        [] if tokenizer.bos is None else [tokenizer.bos],
        tokenizer.encode,
        model.forward,
        lambda tokens: model.activations(tokens, [place])[site][0].clone(),
    )


def of_characters(model: CharacterModel, hook: str) -> Pupil:
    """A character model; the hook point is the site."""
    face = wrap_module(model, name="characters", sites=[hook], example=torch.zeros(1, 4).long())
    return Pupil(
        "characters",
        model,
        [],
        lambda text: alphabet.encode(text).tolist(),
        model,
        lambda tokens: face.activations(tokens, [face.site(hook)])[hook][0],
    )


def other_text(
    pupil: Pupil, store: ActivationStore, *, count: int = 8, length: int = 48
) -> Int[Tensor, "window length"]:
    """The beginnings of held-out documents of the store, after what stands before every text.

    Raises:
        DataError: no held-out document is long enough.
    """
    documents = [each for each in store.documents if each.heldout and each.rows >= length]
    if not documents:
        raise DataError(f"store {store.name} holds out no document of {length} tokens; store more")
    starts = np.array([each.first_row for each in documents[:count]])
    ids = store.tokens[starts[:, None] + np.arange(length)].astype(np.int64)
    ahead = np.tile(np.array(pupil.start, np.int64), (len(ids), 1))
    return torch.from_numpy(np.concatenate([ahead, ids], axis=1))


@torch.no_grad()
def text_loss(pupil: Pupil, ids: Int[Tensor, "window length"]) -> float:
    """Mean cross-entropy of every token given those before it."""
    return float(cross_entropy(pupil.logits(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten()))


@torch.no_grad()
def latents_at(
    pupil: Pupil, code: Dictionary, prompt: Int[Tensor, "1 length"]
) -> Float[np.ndarray, " latent"]:
    """A dictionary's latents at the prompt's last token."""
    return code.encode(pupil.states(prompt)[-1:].float())[0].numpy()


@torch.no_grad()
def strongest(store: ActivationStore, code: Dictionary, latents: np.ndarray) -> list[str]:
    """The five tokens of the store on which each latent is strongest, with what stands before."""
    site = store.manifest.sites[0].name
    active = code.encode(torch.from_numpy(store.read(site, 0, store.rows)))[:, latents].numpy()
    active[store.sinks] = 0
    words: list[str] = []
    for column in active.T:
        rows = np.argsort(-column, kind="stable")[:5]
        rows = rows[column[rows] > 0]
        parts = (store.tokens[max(row - 3, 0) : row + 1].tolist() for row in rows)
        pieces = (store.vocabulary.text(part) for part in parts)
        words.append(" | ".join(each.replace("\n", "↵") for each in pieces) or "nothing here")
    return words
