"""`<basis>.explanations.json` beside a unit table. No torch.

    format, version
    runs           id → backend, model, prompt (digest), table (key), config, provenance
    explanations   unit → run → text, from (contexts explained from), detection (or null)

The id of a run is a hash of what stands in it but its provenance, so that another backend, model,
prompt, table or setting adds to the file and takes nothing away. Text came from a language model:
whoever shows it must escape it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from interp.config import from_dict
from interp.errors import FormatError
from interp.features.explain.detection import Detection
from interp.features.table import UnitTable
from interp.files import read_json, write_json

FORMAT, VERSION = "interp-explanations", 1


@dataclass(frozen=True, kw_only=True)
class Explained:
    """One explanation of a unit."""

    run: str
    """The id of the run that made it."""
    backend: str
    model: str
    text: str
    """Of a language model; escape it before it is shown."""
    shown: int
    """Contexts it was made from."""
    detection: Detection | None
    """How it does on held-out contexts; None where it was not judged."""


def explanations_path(table: Path) -> Path:
    """Where the explanations that belong to a unit table lie."""
    return table.with_name(f"{table.name.removesuffix('.h5')}.explanations.json")


def run_id(run: Mapping[str, Any]) -> str:
    """The id of a run, from all but its provenance."""
    kept = {key: value for key, value in run.items() if key != "provenance"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


class ExplanationFile:
    """The file while explanations are added to it."""

    def __init__(self, table: UnitTable) -> None:
        """Read what is there.

        Raises:
            FormatError: it is malformed, foreign or newer.
        """
        self.path = explanations_path(table.path)
        self._runs: dict[str, Any] = {}
        self._units: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            self._runs, self._units = _read(self.path)

    def has(self, unit: int, run: str) -> bool:
        """Whether a run has explained a unit."""
        return run in self._units.get(str(unit), {})

    def start(self, run: Mapping[str, Any]) -> str:
        """Enter a run, and return its id."""
        self._runs[run_id(run)] = dict(run)
        return run_id(run)

    def add(self, unit: int, run: str, text: str, shown: int, judged: Detection | None) -> None:
        """Enter an explanation; `write` keeps it."""
        self._units.setdefault(str(unit), {})[run] = {
            "text": text,
            "from": shown,
            "detection": None if judged is None else asdict(judged),
        }

    def write(self) -> None:
        """Write everything at once.

        Raises:
            ResourceError: no space is left, or the folder cannot be written.
        """
        used = {run for runs in self._units.values() for run in runs}
        write_json(
            self.path,
            {
                "format": FORMAT,
                "version": VERSION,
                "runs": {key: run for key, run in sorted(self._runs.items()) if key in used},
                "explanations": dict(sorted(self._units.items(), key=lambda pair: int(pair[0]))),
            },
        )


def read_explanations(table: UnitTable) -> dict[int, list[Explained]]:
    """The explanations of a table's units as it is now, by unit; empty if there is no file.

    Raises:
        FormatError: the file is malformed, foreign or newer.
    """
    path = explanations_path(table.path)
    if not path.exists():
        return {}
    runs, units = _read(path)
    found: dict[int, list[Explained]] = {}
    try:
        for unit, of in units.items():
            for key, each in of.items():
                if runs[key]["table"] == table.key and 0 <= int(unit) < table.n_units:
                    found.setdefault(int(unit), []).append(_explained(key, runs[key], each))
    except (KeyError, TypeError, ValueError) as error:
        raise _malformed(path, error) from error
    return found


def _explained(key: str, run: Mapping[str, Any], each: Mapping[str, Any]) -> Explained:
    judged = None if each["detection"] is None else from_dict(Detection, each["detection"])
    values = {"run": key, "backend": run["backend"], "model": run["model"], "text": each["text"]}
    return from_dict(Explained, {**values, "shown": each["from"], "detection": judged})


def _read(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    values = read_json(path)
    if (values.get("format"), values.get("version")) != (FORMAT, VERSION):
        raise FormatError(f"{path} is no file of explanations, or newer; update interp")
    try:
        runs, units = dict(values["runs"]), values["explanations"]
        units = {str(int(unit)): dict(of) for unit, of in units.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _malformed(path, error) from error
    return runs, units


def _malformed(path: Path, error: Exception) -> FormatError:
    return FormatError(f"{path} is malformed ({error}); delete it and run `interp explain` again")
