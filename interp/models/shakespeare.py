"""``shakespeare-1l``: a one-layer transformer trained here, small enough to look at whole.

The setting of "Towards Monosemanticity" (Bricken et al. 2023) at a size that two CPU cores train in
two minutes: one block, 512 ReLU MLP neurons, a byte-level BPE of its own, Shakespeare's works.

1. Split the works into training and held-out ones; learn the BPE on the training works.
2. Every step draws windows from the training tokens by (seed, step); every window begins with BOS.
3. AdamW under a warm-up and a cosine; checkpoints at step 0 (the untrained control), log-spaced
   along the way, and at the end, with the loss on held-out works at each.
4. A resume file every few steps; a killed training continues to the same bytes.
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformer_lens import TransformerBridge, TransformerBridgeConfig

from interp.config import from_dict, to_dict
from interp.corpus import Corpus, fetch_corpus, split_heldout
from interp.errors import ConfigError, DataError, FormatError
from interp.files import read_json, replacing, write_json
from interp.models.bpe import BOS, train_bpe
from interp.models.tokenizer import Tokenizer
from interp.progress import Progress, silent
from interp.provenance import Provenance
from interp.workspace import Workspace

NAME = "shakespeare-1l"
CORPUS = "shakespeare"
MODEL_FILE, TOKENIZER_FILE, LOG_FILE = "model.json", "tokenizer.json", "training.jsonl"
RESUME_FILE = "resume.safetensors"
CHECKPOINTS = (0, 10, 30, 100, 300, 1000, 3000, 10_000)
PROMPT = "ROMEO."


@dataclass(frozen=True, kw_only=True)
class ShakespeareConfig:
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
    steps: int = 900
    """Optimiser steps."""
    windows: int = 32
    """Windows a step."""
    lr: float = 4e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.1
    """Weight decay of matrices."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Matrix products in bfloat16 (weights stay float32); auto: where the processor has it."""
    seed: int = 0
    """Governs weights, data order, the held-out split and samples."""

    def __post_init__(self) -> None:
        """Check every setting."""
        for name in ("d_model", "d_mlp", "n_heads", "n_ctx", "steps", "windows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.d_model % self.n_heads:
            raise ConfigError(
                f"d_model {self.d_model} must be a multiple of n_heads {self.n_heads}"
            )
        if not 300 <= self.vocabulary <= 50_000:
            raise ConfigError(f"vocabulary must lie in 300 to 50000, got {self.vocabulary}")
        if not 0 < self.lr < 1 or self.weight_decay < 0:
            raise ConfigError("lr must lie between 0 and 1 and weight_decay must not be negative")
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

    def rate(self, step: int) -> float:
        """Learning rate at a step: linear warm-up over a twentieth, then a cosine to a tenth."""
        warm = max(self.steps // 20, 1)
        if step < warm:
            return self.lr * (step + 1) / warm
        share = (step - warm) / max(self.steps - warm, 1)
        return self.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


def train_shakespeare(
    config: ShakespeareConfig, workspace: Workspace, progress: Progress = silent
) -> Path:
    """Train the model, continue its training, or return the folder of the finished one.

    Raises:
        ConfigError: the folder holds a model of other settings.
        AssetError: the corpus cannot be fetched.
        ResourceError: no space is left.
    """
    folder = workspace.model(NAME)
    if (folder / MODEL_FILE).exists():
        there = from_dict(ShakespeareConfig, read_json(folder / MODEL_FILE)["config"])
        if there != config:
            raise ConfigError(
                f"{folder} holds a model of other settings ({there}); delete it to train another"
            )
        return folder
    data = _Data.of(fetch_corpus(CORPUS, workspace), config, folder)
    _Training(config, data, folder).run(progress)
    return folder


@dataclass(frozen=True)
class _Data:
    corpus: str
    digest: str
    tokenizer: Tokenizer
    train: np.ndarray
    heldout: np.ndarray
    heldout_bytes: int

    @classmethod
    def of(cls, corpus: Corpus, config: ShakespeareConfig, folder: Path) -> "_Data":
        documents = corpus.documents()
        held = split_heldout(documents, seed=config.seed)
        train = [d.text for d, out in zip(documents, held, strict=True) if not out]
        heldout = [d.text for d, out in zip(documents, held, strict=True) if out]
        path = folder / TOKENIZER_FILE
        if not path.exists():
            train_bpe(train, config.vocabulary, path)
        tokenizer = Tokenizer.of_file(path, bos=BOS)
        streams = [_stream(tokenizer, texts) for texts in (train, heldout)]
        if min(map(len, streams)) < 2 * config.n_ctx:
            raise DataError(f"corpus {corpus.name} is too small to train on")
        size = sum(len(text.encode()) for text in heldout)
        return cls(corpus.name, corpus.digest, tokenizer, streams[0], streams[1], size)


def _stream(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    return np.concatenate([np.array(tokenizer.encode(text), np.int64) for text in texts])


class _Training:
    """One run: its model, optimiser and place."""

    def __init__(self, config: ShakespeareConfig, data: _Data, folder: Path) -> None:
        self.config, self.data, self.folder = config, data, folder
        self.bridge = config.build()
        matrices = [p for p in self.bridge.parameters() if p.ndim > 1]
        vectors = [p for p in self.bridge.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=config.lr,
            betas=(0.9, 0.98),
            fused=True,
        )
        capable = torch.cpu.get_capabilities()
        has = bool(capable.get("avx512_bf16") or capable.get("amx_tile") or capable.get("bf16"))
        self.bf16 = config.precision == "bfloat16" or (config.precision == "auto" and has)
        self.step = 0
        self.log: list[dict[str, Any]] = []

    def run(self, progress: Progress) -> None:
        self._resume()
        started, first = time.perf_counter(), self.step
        while True:
            if self.step in CHECKPOINTS or self.step == self.config.steps:
                self._checkpoint()
            if self.step == self.config.steps:
                break
            loss = self._train_step()
            self.step += 1
            if self.step % 50 == 0:
                self.log.append({"step": self.step, "loss": round(loss, 4)})
                self._save_resume()
            if self.step % 5 == 0:
                tokens = (self.step - first) * self.config.windows * self.config.n_ctx
                speed = tokens / (time.perf_counter() - started)
                progress(self.step, self.config.steps, f"loss {loss:.3f} · {speed:,.0f} tok/s")
        self._finish()

    # -- steps ----------------------------------------------------------------------------------

    def _windows(self, stream: np.ndarray, generator: np.random.Generator, count: int) -> Tensor:
        length = self.config.n_ctx - 1
        starts = generator.integers(0, len(stream) - length, count)
        rows = stream[starts[:, None] + np.arange(length)]
        return torch.from_numpy(np.pad(rows, ((0, 0), (1, 0)), constant_values=BOS))

    def _train_step(self) -> float:
        draw = np.random.default_rng([self.config.seed, self.step])
        tokens = self._windows(self.data.train, draw, self.config.windows)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.rate(self.step)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
            loss = self._loss(tokens).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.bridge.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError(
                f"the loss became {value} at step {self.step}; train again with a lower --lr"
            )
        return value

    def _loss(self, tokens: Tensor) -> Tensor:
        logits = self.bridge(tokens)[:, :-1]
        return cross_entropy(
            logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none"
        )

    @torch.inference_mode()
    def _heldout_loss(self, count: int = 128) -> float:
        generator = np.random.default_rng([self.config.seed, 1 << 31])
        tokens = self._windows(self.data.heldout, generator, count)
        return float(torch.cat([self._loss(part) for part in tokens.split(32)]).mean())

    @torch.inference_mode()
    def sample(self, count: int = 120, temperature: float = 0.8) -> str:
        """Text that continues `PROMPT`."""
        generator = torch.Generator().manual_seed(self.config.seed)
        ids = [BOS, *self.data.tokenizer.encode(PROMPT)]
        for _ in range(count):
            window = torch.tensor([ids[:1] + ids[1:][-(self.config.n_ctx - 1) :]])
            logits = self.bridge(window)[0, -1].float() / temperature
            ids.append(int(torch.multinomial(logits.softmax(0), 1, generator=generator)))
        return self.data.tokenizer.decode(ids[1:])

    # -- files ----------------------------------------------------------------------------------

    def _weights(self) -> dict[str, Tensor]:
        return {k: v.detach().clone().contiguous() for k, v in self.bridge.state_dict().items()}

    def _checkpoint(self) -> None:
        loss = self._heldout_loss()
        entry = {"step": self.step, "heldout_loss": round(loss, 4)}
        if entry not in self.log:
            self.log.append(entry)
        _write_tensors(self.folder / step_file(self.step), self._weights(), {})

    def _save_resume(self) -> None:
        tensors = {f"weights.{name}": value for name, value in self._weights().items()}
        for index, parameter in enumerate(self._parameters()):
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"adam.{index}.{key}"] = value
        state = json.dumps({"step": self.step, "log": self.log, "config": to_dict(self.config)})
        _write_tensors(self.folder / RESUME_FILE, tensors, {"state": state})

    def _resume(self) -> None:
        path = self.folder / RESUME_FILE
        if not path.exists():
            return
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        state = json.loads(header["__metadata__"]["state"])
        if state["config"] != to_dict(self.config):
            raise ConfigError(
                f"{self.folder} holds an unfinished training of other settings; delete it"
            )
        tensors = load_file(path)
        weights = {
            name.removeprefix("weights."): value
            for name, value in tensors.items()
            if name.startswith("weights.")
        }
        self.bridge.load_state_dict(weights)
        for index, parameter in enumerate(self._parameters()):
            prefix = f"adam.{index}."
            self.optimizer.state[parameter] = {
                key.removeprefix(prefix): value
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
        self.step, self.log = state["step"], state["log"]

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def _finish(self) -> None:
        after = self.sample()
        self.bridge.load_state_dict(load_file(self.folder / step_file(0)))
        before = self.sample()
        lines = "".join(json.dumps(line) + "\n" for line in self.log)
        with replacing(self.folder / LOG_FILE) as partial:
            partial.write_text(lines, encoding="utf-8")
        loss = [line["heldout_loss"] for line in self.log if "heldout_loss" in line][-1]
        tokens = len(self.data.heldout)
        record = Provenance(
            job="models train",
            seed=self.config.seed,
            config=to_dict(self.config),
            parents={f"corpus {self.data.corpus}": self.data.digest},
        )
        write_json(
            self.folder / MODEL_FILE,
            {
                "name": NAME,
                "config": to_dict(self.config),
                "steps": [s for s in CHECKPOINTS if s < self.config.steps] + [self.config.steps],
                "precision": "bfloat16 products" if self.bf16 else "float32",
                "heldout": {
                    "loss": loss,
                    "bits_per_byte": loss / math.log(2) * tokens / self.data.heldout_bytes,
                    "unigram_loss": _unigram(self.data.train, self.data.heldout),
                    "uniform_loss": math.log(self.config.vocabulary),
                },
                "samples": {"before": before, "after": after},
                "provenance": record.to_dict(),
            },
        )
        (self.folder / RESUME_FILE).unlink(missing_ok=True)


def step_file(step: int) -> str:
    """File name of a checkpoint."""
    return f"step-{step:06d}.safetensors"


def load_step(folder: Path, step: int | None) -> tuple[TransformerBridge, Path]:
    """The model at a checkpoint, by default the last.

    Raises:
        ConfigError: there is no such checkpoint.
        FormatError: model.json is malformed.
    """
    description = read_json(folder / MODEL_FILE)
    try:
        steps = [int(each) for each in description["steps"]]
        config = from_dict(ShakespeareConfig, description["config"])
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{folder / MODEL_FILE} is malformed ({error!r}); train again") from error
    chosen = steps[-1] if step is None else step
    path = folder / step_file(chosen)
    if chosen not in steps or not path.exists():
        known = ", ".join(f"{NAME}@{each}" for each in steps)
        raise ConfigError(f"{NAME} has no checkpoint of step {chosen}; known: {known}")
    bridge = config.build()
    bridge.load_state_dict(load_file(path))
    return bridge, path


def _unigram(train: np.ndarray, heldout: np.ndarray) -> float:
    """Held-out loss of guessing by training frequency, add-one smoothed."""
    size = int(max(train.max(), heldout.max())) + 1
    counts = np.bincount(train, minlength=size) + 1.0
    return float(-np.log(counts / counts.sum())[heldout].mean())


def _write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    with replacing(path) as partial:
        partial.write_bytes(save(tensors, metadata=metadata or None))
