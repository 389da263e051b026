"""The settings of an extraction. No torch."""

from dataclasses import dataclass

from interp.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """What decides the numbers of a unit table, besides the store and the basis."""

    seed: int = 0
    """Governs random directions, the choice of contexts and of scored rows, and the nulls."""
    contexts: int = 6
    """Contexts kept per stratum of a unit's active range."""
    before: int = 24
    """Tokens shown before a context's peak."""
    after: int = 8
    """Tokens shown after a context's peak."""
    reservoir: int = 128
    """Random active rows kept per unit, from which all strata but the top are filled."""
    score_rows: int = 100_000
    """Rows on which monosemanticity is measured, in whole documents; memory grows with it."""
    shifts: int = 32
    """Circular shifts that make up the null of the monosemanticity score."""
    least_active: int = 30
    """Active scored rows below which a unit is called rare and gets no score."""
    batch: int = 2048
    """Rows encoded at a time; decides memory and speed only."""

    def __post_init__(self) -> None:
        for name in ("contexts", "reservoir", "score_rows", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if min(self.before, self.after, self.seed) < 0:
            raise ConfigError("before, after and seed must not be negative")
        if self.shifts < 2 or self.least_active < 2:
            raise ConfigError("shifts and least_active must be at least 2")
