"""Training a small language model from scratch: batches, checkpoints, and a resume file.

1. Every step draws windows from the training tokens by (seed, step); every window begins with BOS.
2. AdamW under a warm-up and a cosine; checkpoints at step 0 (the untrained control), log-spaced
   along the way, and at the end, with the loss on held-out tokens at each.
3. A resume file every few steps; a killed training continues to the same bytes.
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformer_lens import TransformerBridge

from interp.config import to_dict
from interp.errors import ConfigError, DataError
from interp.files import replacing
from interp.models.bpe import BOS
from interp.progress import Progress

LOG_FILE, RESUME_FILE = "training.jsonl", "resume.safetensors"
CHECKPOINTS = (0, 10, 30, 100, 300, 1000, 3000, 10_000)
RESUME_EVERY = 50


@dataclass(frozen=True, kw_only=True)
class PretrainingConfig:
    """How a language model is trained, whatever its shape."""

    steps: int = 700
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
        for name in ("steps", "windows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.lr < 1 or self.weight_decay < 0:
            raise ConfigError("lr must lie between 0 and 1 and weight_decay must not be negative")

    def rate(self, step: int) -> float:
        """Learning rate at a step: linear warm-up over a twentieth, then a cosine to a tenth."""
        warm = max(self.steps // 20, 1)
        if step < warm:
            return self.lr * (step + 1) / warm
        share = (step - warm) / max(self.steps - warm, 1)
        return self.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))

    def checkpoints(self) -> list[int]:
        """The steps whose weights are kept, the last one included."""
        return [step for step in CHECKPOINTS if step < self.steps] + [self.steps]


@dataclass(frozen=True)
class Tokens:
    """What a model is trained on and judged by."""

    train: Int[np.ndarray, " train"]
    heldout: Int[np.ndarray, " heldout"]


class Pretraining:
    """One run: its model, optimiser and folder."""

    def __init__(
        self, config: PretrainingConfig, bridge: TransformerBridge, tokens: Tokens, folder: Path
    ) -> None:
        """Prepare; nothing is read or written yet.

        Args:
            config: the training's settings, or those of model and training together.
            bridge: the untrained model; it is trained in place.
            tokens: the data.
            folder: gets checkpoints, the log and the resume file.
        """
        self.config, self.bridge, self.tokens, self.folder = config, bridge, tokens, folder
        settings: Any = bridge.cfg
        self.length = int(settings.n_ctx)
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
        """Train from the start or from the resume file to the end, and write the log.

        Raises:
            ConfigError: the folder holds an unfinished training of other settings.
            DataError: the loss became infinite or NaN.
            ResourceError: no space is left.
        """
        self._resume()
        started, first = time.perf_counter(), self.step
        while True:
            if self.step in self.config.checkpoints():
                self._checkpoint()
            if self.step == self.config.steps:
                break
            loss = self._train_step()
            self.step += 1
            if self.step % RESUME_EVERY == 0:
                self.log.append({"step": self.step, "loss": round(loss, 4)})
                self._save_resume()
            if self.step % 5 == 0:
                tokens = (self.step - first) * self.config.windows * self.length
                speed = tokens / (time.perf_counter() - started)
                progress(self.step, self.config.steps, f"loss {loss:.3f} · {speed:,.0f} tok/s")
        lines = "".join(json.dumps(line) + "\n" for line in self.log)
        with replacing(self.folder / LOG_FILE) as partial:
            partial.write_text(lines, encoding="utf-8")

    def heldout_loss(self) -> float:
        """The last held-out loss in the log."""
        return [line["heldout_loss"] for line in self.log if "heldout_loss" in line][-1]

    def forget(self) -> None:
        """Delete the resume file, once nothing more can be lost."""
        (self.folder / RESUME_FILE).unlink(missing_ok=True)

    # -- steps ----------------------------------------------------------------------------------

    def _windows(
        self, stream: Int[np.ndarray, " tokens"], generator: np.random.Generator, count: int
    ) -> Int[Tensor, "count length"]:
        length = self.length - 1
        starts = generator.integers(0, len(stream) - length, count)
        rows = stream[starts[:, None] + np.arange(length)]
        return torch.from_numpy(np.pad(rows, ((0, 0), (1, 0)), constant_values=BOS))

    def _train_step(self) -> float:
        draw = np.random.default_rng([self.config.seed, self.step])
        tokens = self._windows(self.tokens.train, draw, self.config.windows)
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

    def _loss(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, " predicted"]:
        logits = self.bridge(tokens)[:, :-1]
        return cross_entropy(
            logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none"
        )

    @torch.inference_mode()
    def _measure(self, count: int = 128) -> float:
        generator = np.random.default_rng([self.config.seed, 1 << 31])
        tokens = self._windows(self.tokens.heldout, generator, count)
        return float(torch.cat([self._loss(part) for part in tokens.split(32)]).mean())

    # -- files ----------------------------------------------------------------------------------

    def _weights(self) -> dict[str, Tensor]:
        return {k: v.detach().clone().contiguous() for k, v in self.bridge.state_dict().items()}

    def _checkpoint(self) -> None:
        loss = self._measure()
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


def step_file(step: int) -> str:
    """File name of a checkpoint."""
    return f"step-{step:06d}.safetensors"


def _write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    with replacing(path) as partial:
        partial.write_bytes(save(tensors, metadata=metadata or None))
