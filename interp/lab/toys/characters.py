"""A tiny transformer over characters, trained under one of three objectives.

Two blocks (layer norm before, as in GPT-2), 64 numbers wide, two heads, 256 ReLU neurons: the
smallest that speaks a little Shakespeare. The objectives differ in what a position may attend to
and in what it must tell; the net is the same:

1. causal (Radford et al. 2018): sees itself and what stands before; tells the next character.
2. masked (Devlin et al. 2019, "BERT"): sees the whole window, of which 15 % is replaced by a mask;
   tells what stood there. All chosen characters are masked, where BERT spares a fifth of them.
3. prefix (Raffel et al. 2020, "T5"): sees the first half of the window and what stands before;
   tells the next character from the end of that half on.

Sites through `interp.models.wrap_module`: every hook point, such as ``blocks.1.hook_mlp_post``.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from interp.errors import ConfigError, DataError
from interp.lab.toys.alphabet import MASK, decode, encode

Objective = Literal["causal", "masked", "prefix"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
MASKED_SHARE = 0.15


@dataclass(frozen=True, kw_only=True)
class CharacterConfig:
    """The shape of a model."""

    layers: int = 2
    """Blocks."""
    d_model: int = 64
    """Width of the residual stream."""
    heads: int = 2
    """Attention heads of a block."""
    d_mlp: int = 256
    """Neurons of a block."""
    context: int = 64
    """Characters of a window."""
    objective: Objective = "causal"
    """What positions see and tell."""

    def __post_init__(self) -> None:
        """Check every setting."""
        for name in ("layers", "d_model", "heads", "d_mlp"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.d_model % self.heads:
            raise ConfigError(f"d_model {self.d_model} must be a multiple of heads {self.heads}")
        if self.context < 4:
            raise ConfigError(f"context must be at least 4 characters, got {self.context}")
        if self.objective not in OBJECTIVES:
            raise ConfigError(
                f"objective must be one of {', '.join(OBJECTIVES)}, got {self.objective!r}"
            )


def visible(objective: Objective, length: int) -> Bool[Tensor, "query key"]:
    """Which positions (keys) each position (query) may attend to."""
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    if objective == "masked":
        return torch.ones_like(causal)
    if objective == "prefix":
        return causal | (torch.arange(length) < length // 2)
    return causal


class Block(nn.Module):
    """Attention and an MLP, each added to the residual stream."""

    def __init__(self, config: CharacterConfig) -> None:
        """Linear layers with PyTorch's own initial weights."""
        super().__init__()
        d = config.d_model
        self.heads = config.heads
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.o = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, config.d_mlp), nn.Linear(config.d_mlp, d)
        self.hook_pattern, self.hook_mlp_post = HookPoint(), HookPoint()
        self.hook_resid_post = HookPoint()

    def forward(
        self, x: Float[Tensor, "batch query d_model"], seen: Bool[Tensor, "query key"]
    ) -> Float[Tensor, "batch query d_model"]:
        """The residual stream after the block."""
        q, k, v = rearrange(
            self.qkv(self.ln1(x)),
            "batch query (three head d) -> three batch head query d",
            three=3,
            head=self.heads,
        )
        scores = einsum(q, k, "batch head query d, batch head key d -> batch head query key")
        scores = (scores / q.shape[-1] ** 0.5).masked_fill(~seen, float("-inf"))
        pattern = self.hook_pattern(scores.softmax(dim=-1))
        z = einsum(pattern, v, "batch head query key, batch head key d -> batch head query d")
        x = x + self.o(rearrange(z, "batch head query d -> batch query (head d)"))
        neurons = self.hook_mlp_post(torch.relu(self.up(self.ln2(x))))
        return self.hook_resid_post(x + self.down(neurons))


class CharacterModel(HookedRootModule):
    """See the module."""

    def __init__(self, config: CharacterConfig, *, seed: int = 0) -> None:
        """Initial weights by the seed; those of one seed agree over objectives."""
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed = nn.Embedding(MASK + 1, config.d_model)
            self.place = nn.Parameter(0.02 * torch.randn(config.context, config.d_model))
            self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
            self.ln = nn.LayerNorm(config.d_model)
            self.unembed = nn.Linear(config.d_model, MASK + 1)
            nn.init.normal_(self.embed.weight, std=0.02)
            nn.init.normal_(self.unembed.weight, std=0.02)
        self.setup()

    def forward(
        self, tokens: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length vocabulary"]:
        """Logits at every position.

        Raises:
            DataError: a window is longer than the model's context.
        """
        length = tokens.shape[1]
        if length > self.config.context:
            raise DataError(f"the model reads {self.config.context} characters, got {length}")
        x = self.embed(tokens) + self.place[:length]
        seen = visible(self.config.objective, length)
        for block in self.blocks:
            x = block(x, seen)
        return self.unembed(self.ln(x))


def windows(
    ids: Int64[np.ndarray, " characters"], count: int, length: int, draw: np.random.Generator
) -> Int[Tensor, "count length"]:
    """Windows that begin anywhere.

    Raises:
        DataError: the text is shorter than one window.
    """
    if len(ids) < length:
        raise DataError(f"the text has {len(ids)} characters, a window {length}; give more")
    starts = draw.integers(0, len(ids) - length + 1, count)
    return torch.from_numpy(ids[starts[:, None] + np.arange(length)])


def loss_of(
    model: CharacterModel, tokens: Int[Tensor, "batch length"], draw: np.random.Generator
) -> Float[Tensor, ""]:
    """Mean cross-entropy of what the model's objective asks it to tell.

    Args:
        model: the model.
        tokens: windows.
        draw: chooses what is masked; the other objectives leave it alone.
    """
    length = tokens.shape[1]
    if model.config.objective == "masked":
        count = max(1, round(MASKED_SHARE * length))
        places = torch.from_numpy(draw.random(tuple(tokens.shape)).argsort(axis=1)[:, :count])
        logits = model(tokens.scatter(1, places, MASK))
        asked = logits.gather(1, places[..., None].expand(-1, -1, logits.shape[2]))
        return cross_entropy(asked.flatten(0, 1), tokens.gather(1, places).flatten())
    first = length // 2 - 1 if model.config.objective == "prefix" else 0
    logits = model(tokens)[:, first:-1]
    return cross_entropy(logits.flatten(0, 1), tokens[:, first + 1 :].flatten())


def optimise(
    model: nn.Module,
    loss: Callable[[np.random.Generator], Tensor],
    *,
    steps: int,
    lr: float,
    seed: int,
) -> Iterator[int]:
    """Train in place, giving the number of steps done after each; nothing happens unless iterated.

    AdamW, linear warm-up over a twentieth of the steps, then a cosine to a tenth; gradients are
    cut to length 1.

    Args:
        model: whose parameters are trained.
        loss: what is to fall, drawn anew each step from a generator of (seed, step).
        steps: optimiser steps.
        lr: peak learning rate.
        seed: governs what is drawn.

    Raises:
        DataError: the loss is no number.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.1, fused=True
    )
    warm = max(steps // 20, 1)
    for step in range(steps):
        cosine = 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))
        for group in optimizer.param_groups:
            group["lr"] = lr * ((step + 1) / warm if step < warm else cosine)
        value = loss(np.random.default_rng([seed, step]))
        if not bool(torch.isfinite(value)):
            raise DataError(f"the loss became {float(value.detach())} at step {step}; lower the lr")
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield step + 1


def pretrain(
    model: CharacterModel,
    ids: Int64[np.ndarray, " characters"],
    *,
    steps: int,
    batch: int = 64,
    lr: float = 3e-3,
    seed: int = 0,
) -> Iterator[int]:
    """Train on random windows of a text under the model's objective; as `optimise`."""

    def loss(draw: np.random.Generator) -> Tensor:
        return loss_of(model, windows(ids, batch, model.config.context, draw), draw)

    return optimise(model, loss, steps=steps, lr=lr, seed=seed)


@torch.no_grad()
def heldout_loss(
    model: CharacterModel, ids: Int64[np.ndarray, " characters"], *, count: int = 512, seed: int = 0
) -> float:
    """Mean loss on windows of a text, the same windows for every model of one context."""
    draw = np.random.default_rng([seed, 1 << 31])
    tokens = windows(ids, count, model.config.context, draw)
    return float(np.mean([float(loss_of(model, part, draw)) for part in tokens.split(64)]))


@torch.no_grad()
def write(model: CharacterModel, prompt: str, *, count: int = 200, seed: int = 0) -> str:
    """Text with which a causal model continues a prompt, at temperature 0.8."""
    generator = torch.Generator().manual_seed(seed)
    ids = encode(prompt).tolist()
    for _ in range(count):
        logits = model(torch.tensor([ids[-model.config.context :]]))[0, -1, :MASK] / 0.8
        ids.append(int(torch.multinomial(logits.softmax(0), 1, generator=generator)))
    return decode(ids)
