"""Does a model know at a site how words begin? Asked before absorption is measured there.

Chanin et al. 2024, "A is for Absorption: Studying Feature Splitting and Absorption in Sparse
Autoencoders", 2409.14507:

1. Words are tokens of lower-case letters with a space before them, a seeded choice of each letter.
2. Each follows the same few lines of the form `` word has the first letter: W``, and the site is
   read at the word itself.
3. For each letter a logistic regression on the site against all other letters, on two thirds of
   each letter's words. The other words are kept from it.
4. A held-out word's letter is that of the highest score. The model can spell at this site if the
   mean over letters of the share that is right is at least ``BAR``. Otherwise the probes are no
   truth to hold a dictionary against, and nothing is measured.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64

from interp.errors import ConfigError, DataError
from interp.evaluate.perturbation import LinearProbe, fit_probe
from interp.models import LoadedModel
from interp.progress import Progress, silent

BAR = 0.8
"""Balanced accuracy on held-out words that counts as being able to spell."""
WORDS = 240
"""Words of each letter at most. Fewer make the probes poor, not the model: on seven letters of
SmolLM2-135M at `resid_post.9` 40, 80 and 150 words a letter to fit on gave .75, .82 and .90."""
LEAST_WORDS = 90
"""A letter with fewer is left out."""
LEAST_LETTERS = 5
"""A vocabulary with fewer letters left has no words to speak of."""
EXAMPLES = ("tartan", "mirth", "quarry")
"""Words that show the form, themselves never asked about."""
BATCH = 32
_WORD = re.compile(rb" ([a-z]{3,})")


@dataclass(frozen=True)
class Spelling:
    """A site's activations on words, and a probe for each first letter."""

    x: Float64[np.ndarray, "words width"]
    letter: Int64[np.ndarray, " words"]
    """Index into `letters`."""
    heldout: Bool[np.ndarray, " words"]
    letters: tuple[str, ...]
    probes: tuple[LinearProbe, ...]
    """One a letter, fitted on the words that are not held out."""
    accuracy: float
    """Balanced, on the held-out words."""


def spelling(
    model: LoadedModel, site: str, *, seed: int = 0, progress: Progress = silent
) -> Spelling:
    """Read a site on words and fit the probes.

    Args:
        model: the model.
        site: of it.
        seed: governs the choice of words and which are held out.
        progress: told the words read.

    Raises:
        ConfigError: the model reads no text.
        UnknownName: it has no such site.
        DataError: its vocabulary has too few words, or it cannot spell at this site.
    """
    if model.tokenizer is None:
        raise ConfigError(f"{model.name} reads no text: it has no tokenizer")
    words = words_by_letter(model.tokenizer.vocabulary(), seed)
    if len(words) < LEAST_LETTERS:
        raise DataError(
            f"{model.name} has {LEAST_WORDS} one-token words of {len(words)} letters only, and "
            f"absorption of first letters takes {LEAST_LETTERS}; no figure is given"
        )
    letters = tuple(words)
    letter = np.repeat(np.arange(len(letters)), [len(words[each]) for each in letters])
    tokens = np.concatenate([words[each] for each in letters])
    heldout = np.concatenate([np.arange(len(words[each])) % 3 == 2 for each in letters])
    x = _read(model, site, tokens, progress)
    found = spelled(x, letter, heldout, letters)
    if found.accuracy < BAR:
        fitted = int((~heldout).sum())
        raise DataError(
            f"{model.name} cannot spell at {site}: probes fitted on {fitted:,} words "
            f"name the first letter of {found.accuracy:.0%} of other words, below {BAR:.0%}, so "
            "absorption has no truth to hold dictionaries against; no figure is given"
        )
    return found


def words_by_letter(vocabulary: list[bytes], seed: int) -> Mapping[str, Int64[np.ndarray, " n"]]:
    """Token ids of a seeded choice of words of each letter that has enough, in random order."""
    found: dict[str, list[int]] = {}
    for token, piece in enumerate(vocabulary):
        match = _WORD.fullmatch(piece)
        if match and match[1].decode() not in EXAMPLES:
            found.setdefault(match[1][:1].decode(), []).append(token)
    draw = np.random.default_rng([seed, 0x5EA11])
    chosen = {letter: draw.permutation(found[letter])[:WORDS] for letter in sorted(found)}
    return {letter: some for letter, some in chosen.items() if len(some) >= LEAST_WORDS}


def spelled(
    x: Float64[np.ndarray, "words width"],
    letter: Int64[np.ndarray, " words"],
    heldout: Bool[np.ndarray, " words"],
    letters: tuple[str, ...],
) -> Spelling:
    """Steps 3 and 4 on activations that were read."""
    train = ~heldout
    probes = tuple(fit_probe(x[train], letter[train] == i) for i in range(len(letters)))
    best = np.stack([probe.score(x[heldout]) for probe in probes]).argmax(axis=0)
    truth = letter[heldout]
    shares = [(best[truth == i] == i).mean() for i in range(len(letters))]
    return Spelling(x, letter, heldout, letters, probes, float(np.mean(shares)))


def _read(
    model: LoadedModel, site: str, tokens: Int64[np.ndarray, " words"], progress: Progress
) -> Float64[np.ndarray, "words width"]:
    assert model.tokenizer is not None  # `spelling` has asked
    form = "".join(f" {word} has the first letter: {word[0].upper()}\n" for word in EXAMPLES)
    start = [] if model.tokenizer.bos is None else [model.tokenizer.bos]
    before = start + model.tokenizer.encode(form)
    place = model.site(site)
    rows: list[np.ndarray] = []
    for low in range(0, len(tokens), BATCH):
        some = tokens[low : low + BATCH]
        windows = np.concatenate([np.tile(before, (len(some), 1)), some[:, None]], axis=1)
        read = model.activations(torch.from_numpy(windows).to(model.device), [place])
        rows.append(read[place.name][:, -1].double().cpu().numpy())
        progress(low + len(some), len(tokens), "reading words")
    return np.concatenate(rows)
