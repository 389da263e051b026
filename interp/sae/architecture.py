"""Architectures by kind: a new one is one file in `interp.sae.kinds`, found by itself.

Such a file holds a config (a frozen keyword-only dataclass deriving from `Architecture`, with a
``kind``), a `Learner` that trains it and a `Dictionary` that is saved. No other file changes.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from interp.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from interp.sae.base import Dictionary, Origin
    from interp.sae.learner import Learner

_KINDS: dict[str, type["Architecture"]] = {}


@dataclass(frozen=True, kw_only=True)
class Architecture(ABC):
    """Settings common to all architectures, and what each must provide."""

    kind: ClassVar[str]

    latents: int | None = None
    """Number of latents; by default ``expansion`` times the site's width."""
    expansion: int = 8
    """Latents per dimension of the site, used when ``latents`` is not given."""

    def __init_subclass__(cls) -> None:
        """Register the class under its own ``kind``, if it has one."""
        kind = cls.__dict__.get("kind")
        if kind is not None:
            _KINDS[kind] = cls

    def __post_init__(self) -> None:
        """Check what can be checked without a site."""
        if self.latents is not None and self.latents < 1:
            raise ConfigError(f"latents must be at least 1, got {self.latents}")
        if self.expansion < 1:
            raise ConfigError(f"expansion must be at least 1, got {self.expansion}")

    def width(self, d_in: int) -> int:
        """Number of latents at a site ``d_in`` wide."""
        return self.latents if self.latents is not None else self.expansion * d_in

    def searches(self) -> bool:
        """Whether its step looks for the largest pre-activations, as `TrainConfig.search` says."""
        return False

    def check(self, d_in: int) -> None:
        """Check the settings against a site ``d_in`` wide.

        Raises:
            ConfigError: they cannot work there.
        """
        if self.width(d_in) < 2:
            raise ConfigError("a dictionary needs at least 2 latents; raise latents or expansion")

    def by_rows(self) -> bool:
        """Whether the loss is a mean over rows of what each row loses by itself."""
        return False

    def skips(self) -> bool:
        """Whether the dictionary has a linear path beside its latents (transcoders may)."""
        return False

    @abstractmethod
    def label(self, d_in: int) -> str:
        """The name's part before the seed, such as ``topk-4608-k32``."""

    @abstractmethod
    def learner(self, d_in: int, device: torch.device) -> "Learner":
        """What trains this architecture at a site ``d_in`` wide; weights not yet initialised."""

    @abstractmethod
    def dictionary(self, d_in: int, origin: "Origin") -> "Dictionary":
        """An empty dictionary of this architecture."""


def architectures() -> dict[str, type[Architecture]]:
    """Every architecture's config class by kind, in alphabetical order."""
    from interp.sae import kinds as folder

    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")
    return dict(sorted(_KINDS.items()))


def find_architecture(kind: str) -> type[Architecture]:
    """The config class of one kind.

    Raises:
        UnknownName: there is no such architecture.
    """
    known = architectures()
    if kind not in known:
        raise UnknownName("architecture", kind, known)
    return known[kind]
