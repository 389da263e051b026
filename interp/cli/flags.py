"""Command-line flags from config dataclasses, so that no setting has two descriptions."""

import argparse
import dataclasses
import types
import typing
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

from interp.config import field_docs, field_types, from_dict

T = TypeVar("T")


def add_config(
    parser: argparse.ArgumentParser,
    *configs: type,
    skip: Collection[str] = (),
    lists: bool = False,
    defaults: bool = True,
) -> None:
    """Add a flag for each field of each config class, with its docstring and default as help.

    A field that several classes share becomes one flag; its help is that of the first class.
    With ``lists``, flags of one number or word take several, between commas, and give a list.
    Without ``defaults`` the help does not tell them, as where something else decides them.
    """
    seen = set(skip)
    for config in configs:
        group = parser.add_argument_group(config.__name__)
        for field in dataclasses.fields(config):
            if field.name in seen:
                continue
            seen.add(field.name)
            _add_field(group, config, field, lists, defaults)


def add_place(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say which version of a model is loaded, and onto what."""
    parser.add_argument(
        "--revision",
        help="branch, tag or commit of a Hugging Face model; the same as NAME@REVISION",
    )
    parser.add_argument(
        "--device", help="cpu or cuda [cuda where there is one; one a process under torchrun]"
    )
    parser.add_argument(
        "--device-map", help="spread a large model over several devices: auto, balanced or cpu"
    )


def _add_field(
    group: argparse._ArgumentGroup,  # type: ignore[reportPrivateUsage]
    config: type,
    field: dataclasses.Field[Any],
    lists: bool,
    defaults: bool,
) -> None:
    hint = field_types(config)[field.name]
    text = field_docs(config).get(field.name, "")
    if defaults and field.default not in (dataclasses.MISSING, None, ""):
        text = f"{text} [{field.default}]"
    options: dict[str, Any] = {
        "dest": field.name,
        "default": argparse.SUPPRESS,
        "help": text.replace("%", "%%"),
    }
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        (hint,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
    if typing.get_origin(hint) is typing.Literal:
        options["choices"] = typing.get_args(hint)
    elif typing.get_origin(hint) is tuple:
        options |= {"nargs": "+", "type": typing.get_args(hint)[0], "metavar": "N"}
    elif hint is bool:
        options["action"] = argparse.BooleanOptionalAction
    else:
        options |= {"type": count if hint is int else hint, "metavar": hint.__name__.upper()}
    if lists and ("choices" in options or "metavar" in options and "nargs" not in options):
        choices = options.pop("choices", ())
        options["type"] = several(options.get("type", str), choices)
        options["metavar"] = f"{'|'.join(choices) or options['metavar']}[,...]"
    group.add_argument("--" + field.name.replace("_", "-"), **options)


def several(one: Callable[[str], Any], choices: Sequence[str] = ()) -> Callable[[str], list[Any]]:
    """What reads a list between commas, each item as ``one`` reads it and among the choices."""

    def read(text: str) -> list[Any]:
        words = [word.strip() for word in text.split(",")]
        for word in words:
            if choices and word not in choices:
                known = ", ".join(choices)
                raise argparse.ArgumentTypeError(f"unknown value {word!r}; known: {known}")
        return [one(word) for word in words]

    read.__name__ = f"list of {one.__name__}"  # argparse names the type in its messages
    return read


def count(text: str) -> int:
    """An integer, also written 300k or 2M or 1e6 or 1_000_000."""
    scale = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower(), 1)
    number = float(text[:-1] if scale > 1 else text) * scale
    if number != int(number):
        raise ValueError(text)
    return int(number)


count.__name__ = "int"  # argparse names the type in its messages


def read_config(cls: type[T], args: argparse.Namespace) -> T:
    """Build a config from the flags that were given; fields without a flag keep their default.

    Raises:
        ConfigError: the config refuses the values.
    """
    given = {name: getattr(args, name) for name in field_types(cls) if hasattr(args, name)}
    return from_dict(cls, given)
