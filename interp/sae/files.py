"""Dictionaries on disk: a folder of JSON and safetensors, nothing that can execute.

config.json            what it is and how it was made; state "training" until all is written
weights.safetensors    W_enc [d_in, latents], b_enc, W_dec [latents, d_out], b_dec [d_out],
                       threshold, W_skip [d_in, d_out]; d_out is d_in but in a transcoder
metrics.json           reconstruction of held-out rows
log.jsonl              one line per logged step
checkpoint.safetensors only while training: what a resumed run needs
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as dump_tensors
from torch import Tensor

from interp.config import from_dict, to_dict
from interp.errors import ConfigError, FormatError
from interp.files import read_json, replacing, write_json
from interp.sae.architecture import find_architecture
from interp.sae.base import Dictionary, Origin, Part

FORMAT, VERSION = "interp-dictionary", 1
CONFIG, WEIGHTS, METRICS = "config.json", "weights.safetensors", "metrics.json"
LOG, CHECKPOINT = "log.jsonl", "checkpoint.safetensors"


def describe(dictionary: Dictionary) -> dict[str, Any]:
    """What a dictionary is: the part of config.json that `load_dictionary` needs."""
    described: dict[str, Any] = {
        "kind": dictionary.kind,
        "d_in": dictionary.d_in,
        "architecture": to_dict(dictionary.config),
        "origin": dictionary.origin.to_dict(),
    }
    if dictionary.parts:
        described["parts"] = [to_dict(part) for part in dictionary.parts]
    return described


def write_config(folder: Path, state: str, parts: Mapping[str, Any]) -> None:
    """Write config.json with its header."""
    header = {"format": FORMAT, "version": VERSION, "state": state}
    write_json(folder / CONFIG, {**header, **parts})


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json and check its header.

    Raises:
        FormatError: it is missing, foreign or newer.
    """
    values = read_json(folder / CONFIG)
    if values.get("format") != FORMAT:
        raise FormatError(f"{folder / CONFIG} describes no dictionary of interp; name another")
    if values.get("version") != VERSION:
        raise FormatError(
            f"{folder / CONFIG} has version {values.get('version')}, this interp reads {VERSION}; "
            "update interp or train again"
        )
    return values


def save_dictionary(dictionary: Dictionary, folder: str | Path, **extra: Any) -> Path:
    """Write a dictionary to a folder, config.json last, and return the folder.

    Args:
        dictionary: the dictionary; moved to the CPU for writing.
        folder: created if need be.
        **extra: further JSON-ready parts of config.json, such as ``provenance``.

    Raises:
        ResourceError: no space is left, or the folder cannot be written.
    """
    folder = Path(folder)
    write_tensors(folder / WEIGHTS, dict(dictionary.state_dict()), {})
    write_config(folder, "finished", {**describe(dictionary), **extra})
    return folder


def load_dictionary(path: str | Path, *, device: str | torch.device = "cpu") -> Dictionary:
    """Read a dictionary's folder.

    Raises:
        FormatError: a file is missing, malformed, foreign, newer, or its tensors do not fit the
            config or the config to any architecture known here; or the training that writes it
            has not finished.
    """
    folder = Path(path)
    values = read_config(folder)
    if values.get("state") != "finished":
        raise FormatError(
            f"the training in {folder} has not finished; run the same command again: it continues"
        )
    try:
        settings = from_dict(find_architecture(values["kind"]), values["architecture"])
        settings.check(values["d_in"])
        empty = settings.dictionary(values["d_in"], from_dict(Origin, values["origin"]))
        empty.parts = tuple(from_dict(Part, part) for part in values.get("parts", []))
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{folder / CONFIG} is malformed ({error!r}); train again") from error
    except ConfigError as error:
        raise FormatError(f"{folder / CONFIG}: {error}") from error
    if empty.parts and sum(part.width for part in empty.parts) != empty.d_out:
        raise FormatError(f"{folder / CONFIG}: its parts are not {empty.d_out} wide; train again")
    tensors, _ = read_tensors(folder / WEIGHTS)
    expected = {name: tensor.shape for name, tensor in empty.state_dict().items()}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    if found != expected:
        raise FormatError(
            f"{folder / WEIGHTS} holds {_shapes(found)}, its config asks for {_shapes(expected)}; "
            "train again"
        )
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise FormatError(f"{folder / WEIGHTS} holds NaN or infinity; train again")
    empty.load_state_dict(tensors)
    return empty.to(device).eval().requires_grad_(False)


def _shapes(shapes: Mapping[str, torch.Size]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items()))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically.

    Raises:
        ResourceError: no space is left, or the folder cannot be written.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = dump_tensors(plain, metadata=dict(metadata))
    with replacing(path) as partial:
        partial.write_bytes(data)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        FormatError: the file is missing or malformed.
    """
    try:
        data = path.read_bytes()
        tensors = load_tensors(data)
        return tensors, _metadata(data)
    except FileNotFoundError as error:
        raise FormatError(f"{path} does not exist; train again") from error
    except (SafetensorError, ValueError) as error:
        raise FormatError(f"{path} is damaged ({error}); delete it and train again") from error


def _metadata(data: bytes) -> dict[str, str]:
    """The header's ``__metadata__``: eight bytes of length, then JSON (checked by load before)."""
    length = int.from_bytes(data[:8], "little")
    return dict(json.loads(data[8 : 8 + length]).get("__metadata__", {}))
