"""Frozen dataclasses to plain dictionaries and back, and the text that documents their fields.

A config is a frozen keyword-only dataclass that stands beside its owner, with a docstring under
each field. ``__post_init__`` checks and never assigns. Everything here is strict: an unknown key
or a wrong type raises, because a setting that is dropped without a word is a wrong result.
"""

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from interp.errors import ConfigError, UnknownName

T = TypeVar("T")


def to_dict(config: object) -> dict[str, Any]:
    """A config as a JSON-ready dictionary, tuples as lists.

    Raises:
        ConfigError: the object is no dataclass instance.
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise ConfigError(f"{config!r} is no config: expected a dataclass instance")
    return {key: _plain(value) for key, value in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]  # type: ignore[reportUnknownVariableType]
    return value


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build a config from a dictionary.

    Raises:
        UnknownName: a key is not a field of ``cls``.
        ConfigError: a value has the wrong type, a field without default is missing, or the
            config's own checks refuse it.
    """
    hints = field_types(cls)
    for key in values:
        if key not in hints:
            raise UnknownName(f"setting of {cls.__name__}", key, hints)
    converted = {key: _convert(cls, key, hints[key], value) for key, value in values.items()}
    try:
        return cls(**converted)
    except TypeError as error:
        raise ConfigError(f"{cls.__name__}: {error}") from error


def _convert(cls: type, key: str, hint: Any, value: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        (hint,) = (arg for arg in args if arg is not type(None))
        return _convert(cls, key, hint, value)
    if origin is tuple and isinstance(value, list | tuple):
        items = typing.cast("list[Any] | tuple[Any, ...]", value)
        return tuple(_convert(cls, key, args[0], item) for item in items)
    if origin is typing.Literal:
        if value not in args:
            raise UnknownName(f"value of {cls.__name__}.{key}", str(value), map(str, args))
        return value
    nested = bool(dataclasses.is_dataclass(hint))  # bool: no narrowing of what follows
    if nested and isinstance(value, Mapping):
        return from_dict(hint, typing.cast("Mapping[str, Any]", value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    wrong_bool = isinstance(value, bool) and hint is not bool
    if wrong_bool or not isinstance(value, hint):
        raise ConfigError(f"{cls.__name__}.{key} must be {hint.__name__}, got {value!r}")
    return value


@cache
def field_types(cls: type) -> dict[str, Any]:
    """The resolved type of each field of a config class, in order."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


@cache
def field_docs(cls: type) -> dict[str, str]:
    """The docstring that stands under each field, inherited ones included."""
    docs: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(owner):
            continue
        (node,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        body = typing.cast(ast.ClassDef, node).body
        for field, text in zip(body, body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                docs[field.target.id] = " ".join(text.value.value.split())
    return docs
