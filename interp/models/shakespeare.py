"""``shakespeare-1l``: a one-layer transformer trained here, small enough to look at whole.

The setting of "Towards Monosemanticity" (Bricken et al. 2023) at a size that two CPU cores train in
two minutes: one block, 512 ReLU MLP neurons, a byte-level BPE of its own, Shakespeare's works.

Split the works into training and held-out ones, learn the BPE on the training works, train
(`interp.models.pretraining`), and describe the result in ``model.json``.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from safetensors.torch import load_file
from transformer_lens import TransformerBridge, TransformerBridgeConfig

from interp.config import from_dict, to_dict
from interp.corpus import Corpus, fetch_corpus, split_heldout
from interp.errors import ConfigError, DataError, FormatError
from interp.files import read_json, write_json
from interp.models.bpe import BOS, train_bpe
from interp.models.pretraining import (
    RESUME_FILE,
    Pretraining,
    PretrainingConfig,
    Tokens,
    step_file,
)
from interp.models.tokenizer import Tokenizer
from interp.products import faster_products
from interp.progress import Progress, silent
from interp.provenance import Provenance
from interp.workspace import Workspace

NAME = "shakespeare-1l"
CORPUS = "shakespeare"
MODEL_FILE, TOKENIZER_FILE = "model.json", "tokenizer.json"
PROMPT = "ROMEO."


@dataclass(frozen=True, kw_only=True)
class ShakespeareConfig(PretrainingConfig):
    """The toy transformer and its training."""

    d_model: int = 128
    """Width of the residual stream."""
    d_mlp: int = 512
    """MLP neurons (ReLU)."""
    n_heads: int = 4
    """Attention heads."""
    n_ctx: int = 128
    """Window length in tokens, BOS included."""
    vocabulary: int = 2048
    """Tokens of the BPE, BOS included."""

    def __post_init__(self) -> None:
        """Check every setting."""
        super().__post_init__()
        for name in ("d_model", "d_mlp", "n_heads", "n_ctx"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.d_model % self.n_heads:
            raise ConfigError(
                f"d_model {self.d_model} must be a multiple of n_heads {self.n_heads}"
            )
        if not 300 <= self.vocabulary <= 50_000:
            raise ConfigError(f"vocabulary must lie in 300 to 50000, got {self.vocabulary}")
        if self.n_ctx < 8:
            raise ConfigError(f"n_ctx must be at least 8, got {self.n_ctx}")

    def build(self) -> TransformerBridge:
        """The untrained model."""
        return TransformerBridge.boot_native(  # pyright: ignore[reportAttributeAccessIssue]
            TransformerBridgeConfig(
                d_model=self.d_model,
                d_head=self.d_model // self.n_heads,
                n_heads=self.n_heads,
                n_layers=1,
                n_ctx=self.n_ctx,
                d_vocab=self.vocabulary,
                d_mlp=self.d_mlp,
                act_fn="relu",
                seed=self.seed,
            )
        )


@faster_products()
def train_shakespeare(
    config: ShakespeareConfig, workspace: Workspace, progress: Progress = silent
) -> Path:
    """Train the model, continue its training, or return the folder of the finished one.

    Raises:
        ConfigError: the folder holds a model of other settings.
        FormatError: its model.json is malformed.
        AssetError: the corpus cannot be fetched.
        ResourceError: no space is left.
    """
    folder = workspace.model(NAME)
    if (folder / MODEL_FILE).exists():
        there, _ = _read(folder)
        if there != config:
            raise ConfigError(
                f"{folder} holds a model of other settings ({there}); delete it to train another"
            )
        return folder
    data = _Data.of(fetch_corpus(CORPUS, workspace), config, folder)
    training = Pretraining(config, config.build(), data.tokens, folder)
    training.run(progress)
    write_json(folder / MODEL_FILE, _describe(training, config, data, folder))
    training.forget()
    return folder


@dataclass(frozen=True)
class _Data:
    corpus: str
    digest: str
    tokenizer: Tokenizer
    tokens: Tokens
    heldout_bytes: int

    @classmethod
    def of(cls, corpus: Corpus, config: ShakespeareConfig, folder: Path) -> "_Data":
        documents = corpus.documents()
        held = split_heldout(documents, seed=config.seed)
        train = [d.text for d, out in zip(documents, held, strict=True) if not out]
        heldout = [d.text for d, out in zip(documents, held, strict=True) if out]
        path = folder / TOKENIZER_FILE
        # Without a resume file a tokenizer there may be of a training with other settings.
        if not (path.exists() and (folder / RESUME_FILE).exists()):
            train_bpe(train, config.vocabulary, path)
        tokenizer = Tokenizer.of_file(path, bos=BOS)
        tokens = Tokens(_stream(tokenizer, train), _stream(tokenizer, heldout))
        if min(len(tokens.train), len(tokens.heldout)) < 2 * config.n_ctx:
            raise DataError(f"corpus {corpus.name} is too small to train on")
        size = sum(len(text.encode()) for text in heldout)
        return cls(corpus.name, corpus.digest, tokenizer, tokens, size)


def _stream(tokenizer: Tokenizer, texts: list[str]) -> Int[np.ndarray, " tokens"]:
    return np.array([id for text in texts for id in tokenizer.encode(text)], np.int64)


def _describe(
    training: Pretraining, config: ShakespeareConfig, data: _Data, folder: Path
) -> dict[str, Any]:
    """What ``model.json`` says of a finished training."""
    bridge, tokens = training.bridge, data.tokens
    after = _sample(bridge, data.tokenizer, config)
    bridge.load_state_dict(load_file(folder / step_file(0)))
    before = _sample(bridge, data.tokenizer, config)
    loss = training.heldout_loss()
    record = Provenance(
        job="models train",
        seed=config.seed,
        config=to_dict(config),
        parents={f"corpus {data.corpus}": data.digest},
    )
    return {
        "name": NAME,
        "config": to_dict(config),
        "steps": config.checkpoints(),
        "precision": "bfloat16 products" if training.bf16 else "float32",
        "heldout": {
            "loss": loss,
            "bits_per_byte": loss / math.log(2) * len(tokens.heldout) / data.heldout_bytes,
            "unigram_loss": _unigram(tokens.train, tokens.heldout),
            "uniform_loss": math.log(config.vocabulary),
        },
        "samples": {"before": before, "after": after},
        "provenance": record.to_dict(),
    }


@torch.inference_mode()
def _sample(
    bridge: TransformerBridge,
    tokenizer: Tokenizer,
    config: ShakespeareConfig,
    count: int = 120,
    temperature: float = 0.8,
) -> str:
    """Text that continues `PROMPT`."""
    generator = torch.Generator().manual_seed(config.seed)
    ids = [BOS, *tokenizer.encode(PROMPT)]
    for _ in range(count):
        window = torch.tensor([ids[:1] + ids[1:][-(config.n_ctx - 1) :]])
        logits = bridge(window)[0, -1].float() / temperature
        ids.append(int(torch.multinomial(logits.softmax(0), 1, generator=generator)))
    return tokenizer.decode(ids[1:])


def load_step(folder: Path, step: int | None) -> tuple[TransformerBridge, Path]:
    """The model at a checkpoint, by default the last.

    Raises:
        ConfigError: there is no such checkpoint.
        FormatError: model.json is malformed.
    """
    config, steps = _read(folder)
    chosen = steps[-1] if step is None else step
    path = folder / step_file(chosen)
    if chosen not in steps or not path.exists():
        known = ", ".join(f"{NAME}@{each}" for each in steps)
        raise ConfigError(f"{NAME} has no checkpoint of step {chosen}; known: {known}")
    bridge = config.build()
    bridge.load_state_dict(load_file(path))
    return bridge, path


def _read(folder: Path) -> tuple[ShakespeareConfig, list[int]]:
    """Settings and checkpoints of a finished training."""
    description = read_json(folder / MODEL_FILE)
    try:
        steps = [int(each) for each in description["steps"]]
        return from_dict(ShakespeareConfig, description["config"]), steps
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(
            f"{folder / MODEL_FILE} is malformed ({error!r}); delete {folder} and train again"
        ) from error


def _unigram(train: Int[np.ndarray, " train"], heldout: Int[np.ndarray, " heldout"]) -> float:
    """Held-out loss of guessing by training frequency, add-one smoothed."""
    size = int(max(train.max(), heldout.max())) + 1
    counts = np.bincount(train, minlength=size) + 1.0
    return float(-np.log(counts / counts.sum())[heldout].mean())
