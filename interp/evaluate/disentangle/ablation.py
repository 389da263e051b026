"""Do the latents that carry a sense hold up: does the neuron fall silent when they are ablated?

At one row, with C the carriers and v = Σ_{j in C} z_j d_j what they write,

    removed    = a(x) - a(x - v),  a the activation of the neuron's side
    control    = the same with v' of equally many random active latents, scaled to |v'| = |v|

and a share is the sum over rows over the sum of a(x). With the model,

    effect removed = 1 - Σ <δ_n|C, δ_n> / Σ <δ_n, δ_n>

where δ_n is how the logits of the next token move when the neuron alone is set to zero at that
row's position, δ_n|C how they move when that is done with v already taken away, and <,> is the
covariance under the model's own prediction p. That is the metric of KL: KL(p ‖ p') ≈ ½ <δ, δ> for
small δ. It is 1 where the neuron has nothing left to do without the carriers.

Intervals resample documents, since rows of one document are not independent.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from interp.evaluate.causal.intervene import require_predictions
from interp.features.bases import DictionaryBasis
from interp.features.disentangled import Compared
from interp.models import LoadedModel
from interp.progress import Progress, silent
from interp.store import ActivationStore, Site

DRAWS = 1000
"""Resamples of documents behind an interval."""
TOKENS = 1024
"""Tokens the model reads at a time; bounds the memory that logits take."""


@dataclass(frozen=True)
class Neuron:
    """One side of one neuron."""

    index: int
    sign: int

    def activation(self, x: Float[Tensor, "n width"]) -> Float[Tensor, " n"]:
        """On rows of its site."""
        return (self.sign * x[:, self.index]).relu()

    def silenced(self, x: Float[Tensor, "n width"]) -> Float[Tensor, "n width"]:
        """Rows with this side at zero; what lies on the other side stays."""
        out = x.clone()
        out[:, self.index] -= self.sign * self.activation(x)
        return out


class Ablation:
    """Takes latents of one dictionary away from rows of its site."""

    def __init__(self, basis: DictionaryBasis) -> None:
        """Of this dictionary."""
        self._basis = basis
        self._decoder = basis.directions().float().cpu()

    def written(
        self, x: Float[Tensor, "n width"], latents: Int64[np.ndarray, " carriers"]
    ) -> Float[Tensor, "n width"]:
        """v: what some latents write, on rows of the site."""
        chosen = torch.from_numpy(latents)
        return self._basis.encode(x)[:, chosen].float().cpu() @ self._decoder[chosen]

    def random(
        self,
        x: Float[Tensor, "n width"],
        latents: Int64[np.ndarray, " carriers"],
        draw: np.random.Generator,
    ) -> Float[Tensor, "n width"]:
        """v': as many other active latents of each row, scaled to the norm of v."""
        z = self._basis.encode(x).float().cpu()
        chosen = torch.from_numpy(latents)
        carried = z[:, chosen] @ self._decoder[chosen]
        count = (z[:, chosen] > 0).sum(dim=1, keepdim=True)
        other = z.clone()
        other[:, chosen] = 0
        # The largest of random keys are a random choice; silent latents come last.
        keys = torch.from_numpy(draw.random(other.shape, dtype=np.float32)) + 1
        rank = (keys * (other > 0)).argsort(dim=1, descending=True).argsort(dim=1)
        kept = other * (rank < count)
        pushed = kept @ self._decoder
        return pushed * (carried.norm(dim=1) / pushed.norm(dim=1).clamp_min(1e-12))[:, None]


def removed(
    ablation: Ablation,
    neuron: Neuron,
    x: Float[Tensor, "n width"],
    latents: Int64[np.ndarray, " carriers"],
    documents: Int64[np.ndarray, " n"],
    controls: int,
    seed: int,
) -> Compared:
    """Share of the neuron's activation that goes with the carriers."""
    before = neuron.activation(x).double().numpy()

    def gone(written: Tensor) -> Float64[np.ndarray, " n"]:
        return before - neuron.activation(x - written).double().numpy()

    random = [
        gone(ablation.random(x, latents, np.random.default_rng([seed, 0xAB1A, each])))
        for each in range(controls)
    ]
    return compared(gone(ablation.written(x, latents)), before, random, documents, seed)


def share_removed(
    ablation: Ablation,
    neuron: Neuron,
    x: Float[Tensor, "n width"],
    latents: Int64[np.ndarray, " carriers"],
) -> float:
    """The same without interval and control."""
    before, after = neuron.activation(x), neuron.activation(x - ablation.written(x, latents))
    return float((before - after).double().sum()) / max(float(before.double().sum()), 1e-12)


def compared(
    above: Float64[np.ndarray, " n"],
    below: Float64[np.ndarray, " n"],
    controls: list[Float64[np.ndarray, " n"]],
    documents: Int64[np.ndarray, " n"],
    seed: int,
) -> Compared:
    """A ratio of sums with its interval, beside the controls'."""
    names, owner = np.unique(documents, return_inverse=True)
    sums = np.zeros((len(names), 2))
    np.add.at(sums, owner, np.stack([above, below], axis=1))
    weights = np.random.default_rng([seed, 0xB007]).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=DRAWS
    )
    drawn = weights @ sums
    low, high = np.quantile(drawn[:, 0] / np.maximum(drawn[:, 1], 1e-12), [0.025, 0.975]).tolist()
    total = max(float(below.sum()), 1e-12)
    random = [float(each.sum()) / total for each in controls]
    control_low, control_high = np.quantile(random, [0.025, 0.975]).tolist()
    return Compared(
        value=float(above.sum()) / total,
        low=low,
        high=high,
        control=float(np.mean(random)),
        control_low=control_low,
        control_high=control_high,
    )


@dataclass(frozen=True)
class Effects:
    """What ablations do to the prediction of the next token."""

    effect_removed: Compared
    kl_neuron: float
    kl_carriers: float
    kl_control: float


@torch.no_grad()
def effects(
    model: LoadedModel,
    store: ActivationStore,
    ablation: Ablation,
    site: Site,
    neuron: Neuron,
    rows: Int64[np.ndarray, " n"],
    latents: Int64[np.ndarray, " carriers"],
    controls: int,
    seed: int,
    progress: Progress = silent,
) -> Effects:
    """Run the model over the contexts of some rows, ablating at each row's position alone.

    Raises:
        ConfigError: the model predicts no next tokens.
    """
    require_predictions(model)
    draws = [np.random.default_rng([seed, 0xEFFE, number]) for number in range(controls)]
    inner, kl = list[np.ndarray](), list[np.ndarray]()
    order = rows[np.argsort(store.positions[rows], kind="stable")]
    batches = _batches(order, store)
    for number, part in enumerate(batches):
        tokens, last = _windows(part, store, model)
        x = model.activations(tokens, [site])[site.name]
        x = x[torch.arange(len(part), device=x.device), last].float().cpu()
        taken = [
            torch.zeros_like(x),
            ablation.written(x, latents),
            *(ablation.random(x, latents, draw) for draw in draws),
        ]
        # Of each: the logits without what is taken, and without the neuron besides.
        pairs = [
            [_logits(model, site, tokens, last, new) for new in (x - v, neuron.silenced(x - v))]
            for v in taken
        ]
        p = pairs[0][0].softmax(dim=-1).double()
        moved = [_centred((off - on).double(), p) for on, off in pairs]
        inner.append(torch.stack([(p * each * moved[0]).sum(-1) for each in moved], 1).numpy())
        changes = [pairs[0][1], *(on for on, _ in pairs[1:])]
        kl.append(torch.stack([_kl(pairs[0][0], each) for each in changes], 1).numpy())
        progress(number + 1, len(batches), "running the model")
    products, divergence = np.concatenate(inner), np.concatenate(kl).mean(axis=0)
    documents = store.document_index[order].astype(np.int64)
    gone = products[:, :1] - products[:, 1:]
    random = [gone[:, 1 + each] for each in range(controls)]
    return Effects(
        effect_removed=compared(gone[:, 0], products[:, 0], random, documents, seed),
        kl_neuron=float(divergence[0]),
        kl_carriers=float(divergence[1]),
        kl_control=float(divergence[2:].mean()),
    )


def _centred(delta: Tensor, p: Tensor) -> Tensor:
    return delta - (p * delta).sum(dim=-1, keepdim=True)


def _kl(truth: Tensor, other: Tensor) -> Float64[Tensor, " n"]:
    before, after = log_softmax(truth, dim=-1), log_softmax(other, dim=-1)
    each = kl_div(after, before, reduction="none", log_target=True)
    return each.sum(dim=-1, dtype=torch.float64).clamp_min(0)


def _logits(
    model: LoadedModel,
    site: Site,
    tokens: Tensor,
    last: Tensor,
    new: Float[Tensor, "n width"],
) -> Float[Tensor, "n vocab"]:
    """Logits after each window's last position, with the site replaced there."""
    windows = torch.arange(len(tokens), device=tokens.device)

    def replace(x: Tensor) -> Tensor:
        out = x.clone()
        out[windows, last] = new.to(x)
        return out

    with model.substitute(site, replace):
        return model.forward(tokens)[windows, last].float().cpu()


def _batches(rows: np.ndarray, store: ActivationStore) -> list[np.ndarray]:
    """Rows, shortest context first, in groups of at most `TOKENS` tokens."""
    groups: list[list[int]] = [[]]
    for row in rows.tolist():
        if groups[-1] and (len(groups[-1]) + 1) * (int(store.positions[row]) + 1) > TOKENS:
            groups.append([])
        groups[-1].append(row)
    return [np.array(group, np.int64) for group in groups if group]


def _windows(rows: np.ndarray, store: ActivationStore, model: LoadedModel) -> tuple[Tensor, Tensor]:
    """What the model reads up to each row, padded behind it, and the row's position.

    A causal model does not see the padding.
    """
    bos = store.manifest.bos
    last = store.positions[rows].astype(np.int64)
    tokens = np.zeros((len(rows), int(last.max()) + 1), np.int64)
    first = 0 if bos is None else 1
    for line, row, end in zip(tokens, rows.tolist(), last.tolist(), strict=True):
        line[first : end + 1] = store.tokens[row - (end - first) : row + 1]
    if bos is not None:
        tokens[:, 0] = bos
    return torch.from_numpy(tokens).to(model.device), torch.from_numpy(last).to(model.device)
