"""The transformer that adds modulo p, and its training through grokking.

Nanda et al. 2023, "Progress measures for grokking via mechanistic interpretability": the input is
"a b =", the answer (a + b) mod p is read at "=". One layer, causal attention, a ReLU MLP, no layer
norm, untied embeddings.

1. Only the answer's position is read, and its token is always "=": keys and values are computed
   once a token, and each pair of inputs picks its own.
2. A share of all p² pairs is trained on, all at once in each epoch: AdamW, decay on every weight,
   cross-entropy. The other pairs are the test.
3. Snapshots of all weights at equal distances; a run is kept, so that several results can look at
   it.
"""

from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import softplus
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from interp.errors import ConfigError, DataError
from interp.progress import Progress, silent


@dataclass(frozen=True, kw_only=True)
class ModularConfig:
    """The task, the transformer and its training; the defaults are the paper's."""

    p: int = 113
    """The modulus, odd."""
    d_model: int = 128
    """Width of the residual stream."""
    heads: int = 4
    """Attention heads."""
    d_mlp: int = 512
    """MLP neurons."""
    share: float = 0.3
    """Share of all pairs that is trained on."""
    epochs: int = 40_000
    """Full-batch steps."""
    lr: float = 1e-3
    """Learning rate, after ten steps of warm-up."""
    weight_decay: float = 1.0
    """AdamW's decay."""
    snapshots: int = 100
    """How often all weights are kept, besides those at the start."""

    def __post_init__(self) -> None:
        """Check every setting."""
        if self.p < 3 or self.p % 2 == 0:
            raise ConfigError(f"p must be odd and at least 3, got {self.p}")
        for name in ("d_model", "heads", "d_mlp", "epochs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.d_model % self.heads:
            raise ConfigError(f"d_model {self.d_model} must be a multiple of heads {self.heads}")
        if not 0 < self.share < 1:
            raise ConfigError(
                f"share must leave pairs to train on and to test: above 0 and below 1, "
                f"got {self.share}"
            )
        if not 1 <= self.snapshots <= self.epochs:
            raise ConfigError(
                f"snapshots must lie in 1 to epochs ({self.epochs}), got {self.snapshots}"
            )
        if not 0 < self.lr < 1 or self.weight_decay < 0:
            raise ConfigError("lr must lie between 0 and 1 and weight_decay must not be negative")


class Modular(HookedRootModule):
    """See the module."""

    def __init__(self, config: ModularConfig, *, seed: int = 0) -> None:
        """Normal weights of variance 1 / d_model, those of the unembedding 1 / p."""
        super().__init__()
        self.config = config
        draw = torch.Generator().manual_seed(seed)
        p, d, heads = config.p, config.d_model, config.heads

        def weights(*shape: int, fan: int = d) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, generator=draw) / fan**0.5)

        self.W_E = weights(p + 1, d)  # the last token is "="
        self.W_pos = weights(3, d)
        self.W_Q = weights(heads, d, d // heads)
        self.W_K = weights(heads, d, d // heads)
        self.W_V = weights(heads, d, d // heads)
        self.W_O = weights(heads, d // heads, d)
        self.W_in = weights(d, config.d_mlp)
        self.b_in = nn.Parameter(torch.zeros(config.d_mlp))
        self.W_out = weights(config.d_mlp, d)
        self.b_out = nn.Parameter(torch.zeros(d))
        self.W_U = weights(d, p, fan=p)
        self.hook_pattern = HookPoint()
        self.hook_resid_mid = HookPoint()
        self.hook_mlp_post = HookPoint()
        self.hook_resid_post = HookPoint()
        self.setup()

    def forward(self, pairs: Int[Tensor, "pair two"]) -> Float[Tensor, "pair answer"]:
        """Logits of the answer at "=" for inputs a and b."""
        numbers, equals = self.W_E[:-1], self.W_E[-1] + self.W_pos[2]
        query = einsum(equals, self.W_Q, "d, head d key -> head key")
        reading = einsum(query, self.W_K, "head key, head d key -> head d")
        scale = self.W_K.shape[-1] ** -0.5
        scores: list[Tensor] = []
        values: list[Tensor] = []
        for position, token in enumerate(pairs.T):
            tokens = numbers + self.W_pos[position]
            score = einsum(tokens, reading, "token d, head d -> token head")
            value = einsum(tokens, self.W_V, "token d, head d value -> token head value")
            scores.append(score[token] * scale)
            values.append(value[token])
        own = einsum(equals, reading, "d, head d -> head") * scale
        scores.append(own.expand_as(scores[0]))
        values.append(einsum(equals, self.W_V, "d, head d value -> head value")[None])
        pattern = self.hook_pattern(torch.stack(scores, dim=-1).softmax(dim=-1))
        first, second, rest = (pattern[..., i, None] * each for i, each in enumerate(values))
        mixed = first + second + rest
        written = rearrange(mixed, "pair head value -> pair (head value)") @ self.W_O.flatten(0, 1)
        middle = self.hook_resid_mid(equals + written)
        neurons = self.hook_mlp_post(torch.relu(torch.addmm(self.b_in, middle, self.W_in)))
        after = self.hook_resid_post(middle + torch.addmm(self.b_out, neurons, self.W_out))
        return after @ self.W_U


def all_pairs(p: int) -> Int[Tensor, "pair two"]:
    """Every (a, b), a slowest."""
    return torch.cartesian_prod(torch.arange(p), torch.arange(p))


def answers(pairs: Int[Tensor, "pair two"], p: int) -> Int[Tensor, " pair"]:
    """(a + b) mod p."""
    return pairs.sum(dim=1) % p


def losses(
    logits: Float[Tensor, "pair answer"], answer: Int[Tensor, " pair"]
) -> Float[Tensor, " pair"]:
    """Cross-entropy, exact however small: log(1 + Σ_{c ≠ answer} exp(x_c - x_answer)).

    log_softmax rounds losses below the precision of 1 to zero, and with them the gradients on
    which the end of grokking depends; the paper computes it in float64 for that reason.
    """
    own = logits.gather(1, answer[:, None])
    others = logits.scatter(1, answer[:, None], -torch.inf)
    return softplus(others.logsumexp(dim=1) - own[:, 0])


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The run at one moment."""

    epoch: int
    """Steps done."""
    weights: dict[str, Tensor]
    """All weights by name."""
    loss: tuple[float, float]
    """Mean over the training pairs, over the test pairs."""
    accuracy: tuple[float, float]
    """Likewise."""
    squared_norm: float
    """Sum of all squared weights."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training from start to end."""

    config: ModularConfig
    """Its settings."""
    train: Int[Tensor, " trained"]
    """Indices of the training pairs in `all_pairs`."""
    snapshots: tuple[Snapshot, ...]
    """In order; the first is untrained."""

    def model(self, number: int) -> Modular:
        """The transformer at a snapshot."""
        model = Modular(self.config)
        model.load_state_dict(self.snapshots[number].weights)
        return model.requires_grad_(False)

    def first(self, accuracy: float, *, test: bool) -> float:
        """The epoch of the first snapshot that is so accurate; infinite if none is."""
        reached = [s.epoch for s in self.snapshots if s.accuracy[test] >= accuracy]
        return float(reached[0]) if reached else float("inf")


_RUNS: dict[tuple[ModularConfig, int], Run] = {}


def grok(config: ModularConfig, *, seed: int, progress: Progress = silent) -> Run:
    """Train, or return the run of the same settings that this process has trained.

    Args:
        config: the task and the training.
        seed: governs the weights and which pairs are trained on.
        progress: told the epochs done.

    Raises:
        DataError: the training diverged.
    """
    if (config, seed) not in _RUNS:
        _RUNS[config, seed] = _train(config, seed, progress)
    progress(config.epochs, config.epochs)
    return _RUNS[config, seed]


def _train(config: ModularConfig, seed: int, progress: Progress) -> Run:
    model = Modular(config, seed=seed)
    pairs = all_pairs(config.p)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed + 1))
    train = order[: max(1, round(config.share * len(pairs)))]
    some, wanted = pairs[train], answers(pairs[train], config.p)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.lr,
        betas=(0.9, 0.98),
        weight_decay=config.weight_decay,
        fused=True,
    )
    marks = {round(i * config.epochs / config.snapshots) for i in range(config.snapshots + 1)}
    kept: list[Snapshot] = []
    for epoch in range(config.epochs + 1):
        if epoch in marks:
            kept.append(_snapshot(model, train, epoch))
            progress(epoch, config.epochs, f"test accuracy {kept[-1].accuracy[1]:.2f}")
        if epoch == config.epochs:
            break
        for group in optimizer.param_groups:
            group["lr"] = config.lr * min(1.0, (epoch + 1) / 10)
        loss = losses(model(some), wanted).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Run(config=config, train=train, snapshots=tuple(kept))


@torch.no_grad()
def _snapshot(model: Modular, train: Int[Tensor, " trained"], epoch: int) -> Snapshot:
    pairs = all_pairs(model.config.p)
    wanted = answers(pairs, model.config.p)
    logits = model(pairs)
    each = losses(logits, wanted).double()
    right = (logits.argmax(dim=1) == wanted).double()
    test = torch.ones(len(pairs), dtype=torch.bool)
    test[train] = False
    if not torch.isfinite(each).all():
        raise DataError(f"the loss is no number after epoch {epoch}; lower lr")
    return Snapshot(
        epoch=epoch,
        weights={name: value.clone() for name, value in model.state_dict().items()},
        loss=(float(each[~test].mean()), float(each[test].mean())),
        accuracy=(float(right[~test].mean()), float(right[test].mean())),
        squared_norm=float(sum(w.double().square().sum() for w in model.parameters())),
    )
