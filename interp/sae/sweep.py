"""Every combination of some architectures and settings, as the list that `train_many` takes."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from interp.config import field_types, from_dict
from interp.errors import ConfigError, UnknownName
from interp.sae.architecture import Architecture, find_architecture
from interp.sae.config import TrainConfig


def grid(
    kinds: Sequence[str], settings: Mapping[str, Sequence[Any]]
) -> list[tuple[Architecture, TrainConfig]]:
    """Every combination, the last setting varying fastest.

    ``grid(["topk", "batchtopk"], {"k": [16, 32], "seed": [0, 1, 2]})`` is twelve runs. A setting
    that only some of the architectures have multiplies only those.

    Args:
        kinds: architectures by kind.
        settings: values by name, of the architectures and of `TrainConfig`.

    Raises:
        UnknownName: no such architecture, or none of them has the setting.
        ConfigError: a setting has no values, or a value that cannot work.
    """
    classes = [find_architecture(kind) for kind in kinds]
    common = field_types(TrainConfig)
    known = {*common, *(name for cls in classes for name in field_types(cls))}
    for name, values in settings.items():
        if name not in known:
            raise UnknownName(f"setting of {', '.join(kinds)}", name, known)
        if not values:
            raise ConfigError(f"{name} has no values; give at least one")
    runs: list[tuple[Architecture, TrainConfig]] = []
    for cls in classes:
        own = field_types(cls)
        varied = [name for name in settings if name in own or name in common]
        for values in product(*(settings[name] for name in varied)):
            chosen = dict(zip(varied, values, strict=True))
            architecture = {name: value for name, value in chosen.items() if name in own}
            config = {name: value for name, value in chosen.items() if name in common}
            runs.append((from_dict(cls, architecture), from_dict(TrainConfig, config)))
    return runs
