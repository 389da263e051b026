"""GGUF files, dequantised once into safetensors that load in under a second.

Reading GGUF is transformers' work; this module refuses what it would read only in part. Numbers are
those of the quantised model, not of the weights it was made from.
"""

import logging
import math
from pathlib import Path
from typing import Any

from interp.errors import ConfigError, FormatError
from interp.files import sha256
from interp.models.packaged import MODEL_FILE, install
from interp.workspace import Workspace

_MAGIC = b"GGUF"


def find_gguf(path: Path) -> Path | None:
    """The GGUF file that a path means: itself, or the only one in a folder of no other model.

    Raises:
        ConfigError: the folder holds several.
    """
    if path.is_file():
        return path
    if not path.is_dir() or (path / "config.json").exists():
        return None
    files = sorted(path.glob("*.gguf"))
    if len(files) > 1:
        raise ConfigError(f"{path} holds {len(files)} GGUF files; name one, such as {files[0]}")
    return files[0] if files else None


def fetch_gguf(file: Path, workspace: Workspace) -> Path:
    """Dequantise a file into the workspace, unless its bytes have been; return the folder.

    Raises:
        FormatError: the file is damaged, or is not wholly read.
        ConfigError: transformers does not know its architecture or quantisation.
        ResourceError: no space is left.
    """
    _check_magic(file)
    hashed = sha256(file)
    folder = workspace.model(f"{file.stem}-{hashed[:12]}")
    if not (folder / MODEL_FILE).exists():
        licence = str(_Header(file).text("general.license") or "unknown")
        source = {"file": file.name, "sha256": hashed}
        install(folder, lambda made: convert(file, made), licence=licence, source=source)
    return folder


def convert(file: Path, folder: Path) -> None:
    """Write a GGUF file's model and tokenizer as transformers' own files.

    Raises:
        FormatError: the file is damaged, or is not wholly read.
        ConfigError: transformers does not know its architecture or quantisation.
    """
    import torch
    from transformers import AutoConfig, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    header = _Header(file)
    header.check_rope()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    place: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    try:
        config: Any = AutoConfig.from_pretrained(file.parent, **place)
        kind = _model_class(config)
        tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, **place)
        read: Any = kind.from_pretrained(file.parent, dtype=torch.float32, **place)
    except (ValueError, KeyError, IndexError, NotImplementedError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [repr(error)])[0][:200]
        raise ConfigError(
            f"transformers cannot read {file} ({reason}); use the model's original weights"
        ) from error
    numbers = sum(parameter.numel() for parameter in read.parameters())
    if numbers != header.numbers:
        # It draws random numbers for what is missing, and leaves out what it does not know.
        raise FormatError(
            f"{file} holds {header.numbers:,} weights, but its model as transformers reads it has "
            f"{numbers:,}; merge its parts if it is one of several, or use the original weights"
        )
    # A model read from GGUF refuses to be saved; a plain one of the same weights does not.
    settings = read.config.to_dict()
    settings.pop("quantization_config", None)
    plain: Any = kind(type(read.config)(**settings))
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _model_class(config: Any) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    auto: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    return auto._model_mapping[type(config)]


def _check_magic(file: Path) -> None:
    with file.open("rb") as opened:
        if opened.read(len(_MAGIC)) != _MAGIC:
            raise FormatError(
                f"{file} is no GGUF file; give a .gguf file or a folder written by save_pretrained"
            )


class _Header:
    """What a GGUF file says about itself."""

    def __init__(self, file: Path) -> None:
        from gguf import GGUFReader

        self.file = file
        try:
            reader = GGUFReader(file)
            self._fields: dict[str, Any] = dict(reader.fields)
            self.numbers = sum(math.prod(map(int, tensor.shape)) for tensor in reader.tensors)
        # numpy and the reader raise whatever the broken bytes lead them to
        except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
            raise FormatError(f"{file} is damaged ({error}); download it again") from error

    def text(self, key: str) -> Any:
        """A field's value; None if there is none."""
        field = self._fields.get(key)
        return None if field is None else field.contents()

    def check_rope(self) -> None:
        """Refuse stretched positions, which transformers does not read and would compute wrongly.

        Raises:
            ConfigError: the file asks for them.
        """
        architecture = self.text("general.architecture")
        kind = self.text(f"{architecture}.rope.scaling.type")
        stretched = float(self.text(f"{architecture}.rope.scaling.factor") or 1.0)
        if kind not in (None, "none") or stretched != 1.0:
            raise ConfigError(
                f"{self.file} stretches its positions (rope.scaling), which transformers does not "
                "read from GGUF, so its numbers would be wrong; use the model's original weights"
            )
