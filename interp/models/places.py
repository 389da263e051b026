"""Which submodules of any module are its sites."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn
from transformer_lens.hook_points import HookPoint

from interp.errors import ConfigError, UnknownName

INPUT = "@in"
"""Appended to a submodule's name: what goes into it instead of what comes out."""
_NO_ROWS = ("hook_pattern", "hook_attn_scores")
"""TransformerLens' names for numbers that belong to two positions."""


def find_places(
    module: nn.Module, names: Sequence[str] | None, model: str
) -> tuple[dict[str, nn.Module], set[str]]:
    """The submodule of each site, and the sites that were not named one by one.

    Args:
        module: any module.
        names: names or patterns; None means every hook point of TransformerLens in it.
        model: what to call it in errors.

    Raises:
        ConfigError: no site is named, and there is no hook point.
        UnknownName: a name or pattern matches no submodule.
    """
    known = {key: each for key, each in module.named_modules() if key}
    if names is None:
        points = {key for key, each in known.items() if isinstance(each, HookPoint)}
        points = {key for key in points if not key.endswith(_NO_ROWS)}
        if not points:
            raise ConfigError(
                f"{model} has no hook points of TransformerLens; give wrap_module(sites=[...])"
            )
        return {key: each for key, each in known.items() if key in points}, points
    found: dict[str, nn.Module] = {}
    optional: set[str] = set()
    for name in [names] if isinstance(names, str) else names:
        plain, end = name.removesuffix(INPUT), INPUT if name.endswith(INPUT) else ""
        pattern = bool(set(plain) & set("*?["))
        matches = [key for key in known if key == plain or (pattern and fnmatchcase(key, plain))]
        if not matches:
            raise UnknownName(f"submodule of {model}", plain, known)
        for key in matches:
            if key + end not in found and pattern:
                optional.add(key + end)
            found[key + end] = known[key]
        if not pattern:
            optional -= {plain + end}
    if not found:
        raise ConfigError(f"no site of {model} was named; give wrap_module(sites=[...])")
    return found, optional
