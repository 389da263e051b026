"""log.jsonl: one line of numbers per logged step, the same bytes whether or not a run broke off."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interp.files import resource_error, write_text


class Log:
    """Appends lines; lines beyond a checkpoint are cut away before the run repeats them."""

    def __init__(self, path: Path, *, keep: int) -> None:
        """Keep the lines up to step ``keep`` of an earlier run, if any."""
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if _step(line) <= keep]
        write_text(path, "".join(f"{line}\n" for line in kept))

    def write(self, values: Mapping[str, Any]) -> None:
        """Append one line.

        Raises:
            ResourceError: no space is left.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
        except OSError as error:
            raise resource_error(error, self.path) from error


def _step(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize  # a line cut short by a kill
