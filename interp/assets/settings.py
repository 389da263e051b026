"""Where packages come from: the index settings pip itself would use on this machine.

pip's precedence: its configuration files, then ``PIP_*`` variables. The default index is asked of
pip too, so a mirror patched into pip is honoured and no registry is named in this code.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from interp.errors import AssetError

_SECTIONS = ("global", "download", ":env:")  # a later one wins, as for `pip download`
_PROMPT = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"


@dataclass(frozen=True, kw_only=True)
class IndexSettings:
    """The part of pip's configuration that decides where a file is looked for, and how."""

    indexes: tuple[str, ...] = ()
    """Simple-API roots (PEP 503/691): http(s) or file URLs, or folders."""
    find_links: tuple[str, ...] = ()
    """Folders of archives, or pages of links."""
    cert: str | None = None
    """Certificate bundle for TLS; None for the usual one."""
    client_cert: str | None = None
    """Client certificate for TLS."""
    proxy: str | None = None
    """Proxy of every request; None for the environment's."""


def read_settings(environment: Mapping[str, str] | None = None) -> IndexSettings:
    """Read pip's configuration files and variables.

    Args:
        environment: the variables to read; this process's by default.

    Raises:
        AssetError: no index is configured and pip is not there to name its default.
    """
    variables = os.environ if environment is None else environment
    found = _pip_configuration(variables)
    for key in ("index-url", "extra-index-url", "find-links", "no-index", "cert", "client-cert",
                "proxy"):  # fmt: skip
        value = variables.get("PIP_" + key.upper().replace("-", "_"))
        if value:
            found[key] = value
    indexes: list[str] = []
    if found.get("no-index", "").strip().lower() not in ("1", "true", "yes", "on", "y", "t"):
        extra = found.get("extra-index-url", "").split()
        main = found.get("index-url", "").strip()
        # Extra indexes first: where they are set they are the nearer ones, and the hash is pinned.
        indexes = [*extra, main or _default_index(variables, required=not extra)]
    return IndexSettings(
        indexes=tuple(dict.fromkeys(index.rstrip("/") for index in indexes if index)),
        find_links=tuple(dict.fromkeys(found.get("find-links", "").split())),
        cert=found.get("cert") or None,
        client_cert=found.get("client-cert") or None,
        proxy=found.get("proxy") or None,
    )


def _pip_configuration(variables: Mapping[str, str]) -> dict[str, str]:
    """``pip config list`` as option to value; empty where pip is not installed."""
    values: dict[str, str] = {}
    ranked: dict[str, int] = {}
    for line in _pip(["-m", "pip", "config", "list"], variables).splitlines():
        name, separator, value = line.partition("=")
        section, dot, key = name.rpartition(".")
        if not separator or not dot or section not in _SECTIONS:
            continue
        try:
            text = ast.literal_eval(value)  # pip prints each value as a Python string literal
        except (ValueError, SyntaxError):
            continue
        rank = _SECTIONS.index(section)
        if isinstance(text, str) and rank >= ranked.get(key, -1):
            values[key], ranked[key] = text, rank
    return values


def _default_index(variables: Mapping[str, str], *, required: bool) -> str:
    """pip's built-in index."""
    url = _pip(["-c", _PROMPT], variables).strip()
    if not url and required:
        raise AssetError(
            "no package index is configured and pip is not installed in this Python; install pip "
            "or set PIP_INDEX_URL"
        )
    return url


def _pip(arguments: list[str], variables: Mapping[str, str]) -> str:
    """Output of this Python run with the arguments; empty if it fails."""
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=dict(variables),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
