"""The settings of an explanation."""

from dataclasses import dataclass

from interp.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """What decides an explanation and its figures, besides the unit and the language model."""

    seed: int = 0
    """Governs which documents are explained from, and which silent rows are judged."""
    shown: int = 15
    """Contexts that an explanation is made from, at most."""
    judged: int = 15
    """Held-out active rows that it is judged on, and as many silent ones; 0 leaves judging out."""

    def __post_init__(self) -> None:
        if self.shown < 1 or min(self.judged, self.seed) < 0:
            raise ConfigError("shown must be at least 1, judged and seed must not be negative")
