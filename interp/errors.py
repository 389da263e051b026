"""Every error this project raises on purpose.

    InterpError
    ├── ConfigError (ValueError)        a setting, name or combination that cannot work
    │   └── UnknownName (LookupError)   a name nobody knows: model, site, corpus, architecture, ...
    ├── AssetError                      a download that is missing, offline or not what was pinned
    ├── StoreError                      an activation store that cannot be read or written
    │   ├── StoreIncomplete             ... because its capture has not finished
    │   └── StoreCorrupt                ... because its bytes are not what its manifest says
    ├── FormatError                     any other file of ours that is malformed, foreign or newer
    ├── DataError                       numbers that cannot be used: NaN, empty, wrong shape
    └── ResourceError                   no disk space, no memory, no permission

One sentence names the thing, one names the remedy. The command line prints the message alone and
exits with ``exit_code``; the app shows it in place of the panel; scripts may catch `InterpError`.
"""

import difflib
from collections.abc import Iterable


class InterpError(Exception):
    """Base of every deliberate error; ``exit_code`` is what the command line exits with."""

    exit_code = 1


class ConfigError(InterpError, ValueError):
    """A setting or a combination of settings that cannot work."""

    exit_code = 2


class UnknownName(ConfigError, LookupError):
    """A name that is not among the known ones; the message lists near matches."""

    def __init__(self, kind: str, name: str, known: Iterable[str], remedy: str = "") -> None:
        names = sorted(set(known))
        near = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
        shown = near or names[:12]
        hint = "did you mean" if near else "known"
        listing = ", ".join(shown) + (", ..." if not near and len(names) > len(shown) else "")
        text = f"unknown {kind} {name!r}; {hint}: {listing or '(none)'}"
        super().__init__(f"{text}. {remedy}" if remedy else text)


class AssetError(InterpError):
    """A download that is missing, offline, or differs from its pinned hash."""


class StoreError(InterpError):
    """An activation store that cannot be read or written."""


class StoreIncomplete(StoreError):
    """A store whose capture has not finished."""


class StoreCorrupt(StoreError):
    """A store whose bytes are not what its manifest says."""


class FormatError(InterpError):
    """A file that is malformed, foreign, or written by a newer version."""


class DataError(InterpError):
    """Numbers that cannot be used: NaN, empty, or of the wrong shape."""


class ResourceError(InterpError):
    """No disk space, no memory, or no permission."""
