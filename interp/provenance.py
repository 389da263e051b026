"""Where a file came from: seed, settings, versions, commit and parents. It stands in every file.

No clock and no host name: the same command gives the same bytes on the same machine.
"""

import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from interp.errors import FormatError

RECORDED = ("interp-workbench", "torch", "transformer-lens", "transformers", "numpy", "h5py")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What made an artefact, complete enough to make it again."""

    job: str
    """The verb that wrote the artefact: capture, train, extract, ..."""
    seed: int
    """The one seed that governed the job."""
    config: dict[str, Any]
    """The job's settings, defaults included."""
    parents: dict[str, str] = field(default_factory=dict[str, str])
    """Name and content hash of each artefact it was made from."""
    versions: dict[str, str] = field(default_factory=lambda: dict(versions()))
    """Versions of the interpreter and of the packages that decide the numbers."""
    commit: str = field(default_factory=lambda: commit())
    """Git commit of this project, with ``+`` after it if files were changed; empty if unknown."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)

    def to_json(self) -> str:
        """One line of JSON, as stored in HDF5 attributes."""
        return json.dumps(self.to_dict(), ensure_ascii=False, sort_keys=True)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Provenance":
        """Read a stored record.

        Raises:
            FormatError: a field is missing or unknown.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise FormatError(f"malformed provenance: {error}") from error


@cache
def versions() -> Mapping[str, str]:
    """Versions of Python and of the packages in `RECORDED` that are installed."""
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def commit() -> str:
    """The git commit this code stands at, or an empty string outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return ""

    def git(*args: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(root), *args], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return ""
