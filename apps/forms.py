"""Forms over the settings of a command: one widget a field, and the command line they make.

What the fields are comes from `apps.fields`, asked once per run of the app in a process of its own,
because architectures need torch. Only what differs from a default is written into a command.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import streamlit as st

from apps import launch
from interp.errors import ConfigError, ResourceError
from interp.workspace import Workspace

ACROSS = 4
"""Widgets beside each other."""
Field = Mapping[str, Any]
"""One field as `apps.fields.fields` tells it."""


@st.cache_resource(max_entries=1, show_spinner="Reading what can be set …")
def known() -> dict[str, dict[str, list[Field]]]:
    """The fields of every form.

    Raises:
        ResourceError: they could not be asked for; says why.
    """
    done = _ask([])
    if done.returncode:
        raise ResourceError(f"the settings cannot be read: {done.stderr.strip()[-400:]}")
    return cast(dict[str, dict[str, list[Field]]], json.loads(done.stdout))


def check(verb: str, arguments: Sequence[str]) -> None:
    """Let the settings' own classes judge a command line.

    Raises:
        ConfigError: they refuse; the words are theirs.
    """
    done = _ask([verb, *arguments])
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"refused with exit code {done.returncode}"]
        raise ConfigError(said[-1])


def _ask(words: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "apps.fields", *words],
        env=launch.environment(Workspace.at().root, os.environ),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def settings(fields: Sequence[Field], key: str) -> list[str]:
    """A widget for each field, and the flags of those that differ from their defaults."""
    flags: list[str] = []
    for first in range(0, len(fields), ACROSS):
        columns = st.columns(ACROSS)
        for column, field in zip(columns, fields[first : first + ACROSS], strict=False):
            with column:
                flags += flag(field, _widget(field, f"{key}-{field['name']}"))
    return flags


def flag(field: Field, value: Any) -> list[str]:
    """What a value is on the command line; nothing where it is the default."""
    name, default = "--" + str(field["name"]).replace("_", "-"), field["default"]
    if field["kind"] == "several":
        words = str(value or "").replace(",", " ").split()
        usual = [f"{each:g}" for each in default or []]
        return [] if not words or words == usual else [name, *words]
    if value in (None, "") or value == default:
        return []
    if field["kind"] == "bool":
        return [name if value else name.replace("--", "--no-", 1)]
    return [f"{name}={value}"]


def _widget(field: Field, key: str) -> Any:
    label, default, words = str(field["name"]).replace("_", " "), field["default"], field["help"]
    kind = field["kind"]
    if kind == "bool":
        return st.toggle(label, bool(default), key=key, help=words)
    if kind == "choice":
        choices = list(field["choices"])
        return st.selectbox(label, choices, choices.index(default), key=key, help=words)
    if kind == "several":
        return st.text_input(label, " ".join(f"{each:g}" for each in default), key=key, help=words)
    placeholder = "by itself" if field["optional"] else ""
    # Steps and bounds are none of ours: the class itself says what it refuses.
    if kind == "int":
        return st.number_input(
            label, value=default, step=1, key=key, help=words, placeholder=placeholder
        )
    if kind == "float":
        return st.number_input(
            label,
            value=default,
            step=0.01,
            format="%g",
            key=key,
            help=words,
            placeholder=placeholder,
        )
    return st.text_input(label, default or "", key=key, help=words)
