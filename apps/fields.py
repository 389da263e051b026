"""What the forms ask for, told by the settings' own classes; run as a process, for it needs torch.

    python -m apps.fields                            # every form's fields, as JSON
    python -m apps.fields train --k=0 -- STORE SITE  # would that command line do? 0, or 2 and why

The names, types, defaults and help are those of the config dataclasses, and so are the refusals:
the command line is read as `interp` reads it, and its settings are made without anything being run.
"""

import argparse
import dataclasses
import json
import sys
import types
import typing
from collections.abc import Sequence
from typing import Any

from interp.config import field_docs, field_types
from interp.errors import InterpError

VERBS = ("capture", "train", "extract", "disentangle")


def fields(config: type) -> list[dict[str, Any]]:
    """The fields of a config class: name, kind, choices, default, whether it may be left out."""
    found: list[dict[str, Any]] = []
    for each in dataclasses.fields(config):
        hint = field_types(config)[each.name]
        optional = typing.get_origin(hint) in (types.UnionType, typing.Union)
        if optional:
            (hint,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
        origin = typing.get_origin(hint)
        several = origin is tuple
        default = None if each.default is dataclasses.MISSING else each.default
        kind = "choice" if origin is typing.Literal else "several" if several else hint.__name__
        found.append(
            {
                "name": each.name,
                "kind": kind,
                "choices": list(typing.get_args(hint)) if kind == "choice" else [],
                "default": list(default) if several and default is not None else default,
                "optional": optional or each.default is dataclasses.MISSING,
                "help": field_docs(config).get(each.name, ""),
            }
        )
    return found


def forms() -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Per verb, the fields of its settings; those of ``train`` by architecture as well."""
    from interp.capture import CaptureConfig
    from interp.evaluate.disentangle.config import DisentangleConfig
    from interp.features import ExtractConfig
    from interp.sae import TrainConfig, architectures

    kinds = {name: fields(kind) for name, kind in architectures().items()}
    return {
        "capture": {"": fields(CaptureConfig)},
        "train": {"": fields(TrainConfig), **kinds},
        "extract": {"": fields(ExtractConfig)},
        "disentangle": {"": fields(DisentangleConfig)},
    }


def check(verb: str, args: argparse.Namespace) -> None:
    """Make the settings of a command line as its verb does.

    Raises:
        ConfigError: they refuse.
    """
    from interp.cli.flags import read_config

    if verb == "train":
        from interp.cli.train import given
        from interp.sae import grid

        grid(args.architecture, given(args))
    elif verb == "capture":
        from interp.capture import CaptureConfig

        read_config(CaptureConfig, args)
    elif verb == "disentangle":
        from interp.evaluate.disentangle.config import DisentangleConfig

        read_config(DisentangleConfig, args)
    else:
        from interp.features import ExtractConfig

        read_config(ExtractConfig, args)


def main(argv: Sequence[str]) -> int:
    """Print the forms, or judge a command line."""
    if not argv:
        sys.stdout.write(json.dumps(forms()))
        return 0
    from interp.cli import verb_parser

    verb = argv[0]
    if verb not in VERBS:
        sys.stderr.write(f"the app starts {', '.join(VERBS)}, not {verb!r}\n")
        return 2
    try:
        check(verb, verb_parser(verb).parse_args(list(argv[1:])))
    except InterpError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
