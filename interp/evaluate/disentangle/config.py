"""The settings of disentangling a neuron."""

from dataclasses import dataclass

from interp.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class DisentangleConfig:
    """What decides the numbers, besides the table, the dictionary and the model."""

    seed: int = 0
    """Governs the choice of rows, their two halves, the random latents and the intervals."""
    rows: int = 96
    """Rows of each sense at most, over both halves."""
    sample: int = 8192
    """Random active rows of the neuron that are looked through for its senses."""
    carriers: int = 5
    """Latents that may carry a sense, at most."""
    share: float = 0.5
    """Share of a sense's mean activation at which the carriers suffice."""
    controls: int = 8
    """Seeds of random latents to compare with."""
    effects: int = 16
    """Rows of each sense at most on which the model is run."""
    effect_controls: int = 4
    """Seeds of random latents to compare with there."""

    def __post_init__(self) -> None:
        """Check every setting."""
        names = ("rows", "sample", "carriers", "controls", "effects", "effect_controls")
        for name in names:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.share <= 1:
            raise ConfigError(f"share must lie in 0 to 1, got {self.share:g}")
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, got {self.seed}")
