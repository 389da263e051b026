"""What a dictionary costs the model that it explains: next-token loss with it spliced in.

Over held-out windows, with every non-sink activation of the site replaced:

    CE             cross-entropy of the model itself, nats per predicted token
    CE_dictionary  ... with x replaced by the reconstruction x̂
    CE_mean        ... by the site's mean over training rows        (mean ablation)
    CE_zero        ... by zero                                      (zero ablation)
    loss recovered = (CE_mean - CE_dictionary) / (CE_mean - CE)     1 = nothing lost
    KL             = E KL(p_model ‖ p_dictionary), nats per predicted token

Loss recovered here uses **mean** ablation as its zero point. Zero ablation, which many reports
use, is the easier baseline where activations have a large mean; ``loss_recovered_zero`` gives it.
A transcoder's x is its target's activation, x̂ what it predicts from its source in the model
itself. Of several sites read or written together x is read in a pass in which nothing is replaced,
and all are replaced in one.

The BOS token and attention sinks pass through unchanged in every variant, ablations too: no
dictionary is trained on them, and replacing them breaks the model whatever the dictionary.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from interp.errors import ConfigError, DataError
from interp.evaluate.candidate import Candidate, candidate, same_sites
from interp.evaluate.windows import Windows, heldout_windows
from interp.models import LoadedModel
from interp.products import faster_products
from interp.progress import Progress, silent
from interp.sae import Dictionary
from interp.sae.survey import survey
from interp.store import ActivationStore, Site
from interp.store.site import columns

DRAWS = 1000
"""Bootstrap resamples of documents behind the interval of loss recovered."""
SHARED = ("model", "mean", "zero")
"""What every candidate is compared with; one column of losses each, before the candidates'."""


@dataclass(frozen=True, kw_only=True)
class Downstream:
    """Downstream loss on held-out windows; the module's docstring has the formulas."""

    ce: float
    """Cross-entropy of the model, nats per predicted token."""
    ce_dictionary: float
    """With the dictionary's reconstruction in place of the activation."""
    ce_mean_ablation: float
    """With the site's training mean in its place."""
    ce_zero_ablation: float
    """With zero in its place."""
    loss_recovered: float
    """Against mean ablation; 1 means nothing is lost."""
    loss_recovered_low: float
    """Lower end of its 95 % interval, by resampling documents."""
    loss_recovered_high: float
    """Upper end of that interval."""
    loss_recovered_zero: float | None
    """Against zero ablation; None where that ablation costs nothing."""
    kl: float
    """KL divergence from the model to the model with the dictionary, nats per predicted token."""
    tokens: int
    """Predicted tokens."""
    windows: int
    """Windows evaluated."""
    documents: int
    """Held-out documents they come from."""
    replaced: int
    """Activations replaced."""
    passed: int
    """Activations passed through unchanged: BOS tokens and attention sinks."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class _Sums:
    """Sums over each window's predicted tokens."""

    losses: Float64[np.ndarray, "windows variants"]
    """Of `SHARED`, then of each candidate."""
    kl: Float64[np.ndarray, "windows candidates"]
    tokens: Float64[np.ndarray, " windows"]
    documents: Int[np.ndarray, " windows"]


def downstream(
    dictionary: Dictionary | Candidate,
    model: LoadedModel,
    store: ActivationStore,
    *,
    windows: int = 256,
    batch: int = 8,
    seed: int = 0,
    progress: Progress = silent,
) -> Downstream:
    """Splice a dictionary into the model and measure next-token loss on held-out windows.

    Args:
        dictionary: the dictionary, or a baseline as a `Candidate`.
        model: the model whose activations the store holds.
        store: held-out documents, the site's training mean and the sinks come from here.
        windows: at most so many, chosen by ``seed``.
        batch: windows per forward pass.
        seed: governs the choice and the bootstrap.
        progress: told the windows done.

    Raises:
        ConfigError: the store is of another model, or a number is below 1.
        UnknownName: no such site.
        DataError: no held-out windows, or mean ablation costs nothing (no loss to recover).
    """
    one = candidate(dictionary) if isinstance(dictionary, Dictionary) else dictionary
    (found,) = downstream_many(
        [one],
        model,
        store,
        windows=windows,
        batch=batch,
        seed=seed,
        progress=progress,
    )
    return found


@faster_products()
def downstream_many(
    candidates: Sequence[Candidate],
    model: LoadedModel,
    store: ActivationStore,
    *,
    windows: int = 256,
    batch: int = 8,
    seed: int = 0,
    progress: Progress = silent,
) -> list[Downstream]:
    """The same for several candidates of one site; the model and its ablations run once for all.

    Raises:
        ConfigError, UnknownName, DataError: see `downstream`.
    """
    if windows < 1 or batch < 1:
        raise ConfigError(f"windows and batch must be at least 1, got {windows} and {batch}")
    if model.name != store.model:
        raise ConfigError(
            f"store {store.name} was captured from {store.model}, not from {model.name}; "
            f"load {store.model}"
        )
    if not candidates:
        return []
    same_sites(candidates)
    of = candidates[0]
    read, written = (store.parts(store.site(name)) for name in (of.site, of.writes))
    bos = store.manifest.bos
    groups = heldout_windows(store, bos, limit=windows, seed=seed)
    place = store.site(of.writes)
    mean = torch.from_numpy(survey(store, place, seed=seed).mean).float()
    parts: list[_Sums] = []
    total, done = sum(len(group.tokens) for group in groups), 0
    for group in groups:
        for start in range(0, len(group.tokens), batch):
            some = slice(start, start + batch)
            chunk = Windows(group.tokens[some], group.replaced[some], group.documents[some])
            parts.append(_measure(candidates, model, read, written, mean, chunk))
            done += len(chunk.tokens)
            progress(done, total, "")
    sums = _Sums(
        losses=np.concatenate([part.losses for part in parts]),
        kl=np.concatenate([part.kl for part in parts]),
        tokens=np.concatenate([part.tokens for part in parts]),
        documents=np.concatenate([part.documents for part in parts]),
    )
    replaced = sum(int(group.replaced.sum()) for group in groups)
    positions = sum(group.tokens.size for group in groups)
    return [
        _summary(sums, number, replaced, positions - replaced, seed, place)
        for number in range(len(candidates))
    ]


@torch.inference_mode()
def _measure(
    candidates: Sequence[Candidate],
    model: LoadedModel,
    read: Sequence[Site],
    written: Sequence[Site],
    mean: Tensor,
    windows: Windows,
) -> _Sums:
    tokens = torch.from_numpy(windows.tokens).to(model.device)
    mask = torch.from_numpy(windows.replaced).to(model.device)
    truth = model.forward(tokens)[:, :-1].float()
    losses = [_losses(truth, tokens)]
    reference = log_softmax(truth, dim=-1)
    given = model.activations(tokens, [model.site(site.name) for site in read])
    rows = torch.cat([given[site.name][mask].float() for site in read], dim=1)
    ablations = [mean.expand(len(rows), -1), torch.zeros(len(rows), len(mean))]
    kl: list[np.ndarray] = []
    places = [model.site(site.name) for site in written]
    parts = columns(site.width for site in written)
    for replacement in [*ablations, *candidates]:
        made = replacement(rows) if isinstance(replacement, Candidate) else replacement
        with ExitStack() as replaced:
            for place, part in zip(places, parts, strict=True):
                replaced.enter_context(model.substitute(place, splice(made[:, part], mask)))
            logits = model.forward(tokens)[:, :-1].float()
        losses.append(_losses(logits, tokens))
        if isinstance(replacement, Candidate):
            each = kl_div(log_softmax(logits, dim=-1), reference, reduction="none", log_target=True)
            kl.append(each.sum(dim=(1, 2), dtype=torch.float64).cpu().numpy())
    return _Sums(
        losses=np.stack(losses, axis=1),
        kl=np.stack(kl, axis=1),
        tokens=np.full(len(tokens), tokens.shape[1] - 1.0),
        documents=windows.documents,
    )


def splice(
    rows: Float[Tensor, "n width"], mask: Bool[Tensor, "batch length"]
) -> Callable[[Float[Tensor, "batch length width"]], Float[Tensor, "batch length width"]]:
    """A function on a site's activation that puts rows at the masked positions, in their order."""

    def replace(activation: Tensor) -> Tensor:
        out = activation.clone()
        out[mask] = rows.to(activation)
        return out

    return replace


def _losses(logits: Tensor, tokens: Tensor) -> np.ndarray:
    """Summed cross-entropy of each window."""
    each = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    return each.view(len(tokens), -1).sum(dim=1, dtype=torch.float64).cpu().numpy()


def _summary(
    sums: _Sums, number: int, replaced: int, passed: int, seed: int, site: Site
) -> Downstream:
    count = sums.tokens.sum()
    losses = sums.losses[:, [0, 1, 2, len(SHARED) + number]]
    model, mean, zero, dictionary = (losses.sum(axis=0) / count).tolist()
    if mean <= model:
        raise DataError(
            f"ablating {site.name} to its mean does not raise the loss ({mean:.4f} against "
            f"{model:.4f}), so there is no loss to recover; evaluate another site"
        )
    # Documents, not windows, are independent of each other.
    names, owner = np.unique(sums.documents, return_inverse=True)
    per_document = np.zeros((len(names), losses.shape[1]))
    np.add.at(per_document, owner, losses)
    weights = np.random.default_rng([seed, 3]).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=DRAWS
    )
    drawn = weights @ per_document
    gap = drawn[:, 1] - drawn[:, 0]
    ratios = (drawn[:, 1] - drawn[:, 3])[gap > 0] / gap[gap > 0]
    low, high = np.quantile(ratios, [0.025, 0.975]).tolist()
    return Downstream(
        ce=model,
        ce_dictionary=dictionary,
        ce_mean_ablation=mean,
        ce_zero_ablation=zero,
        loss_recovered=(mean - dictionary) / (mean - model),
        loss_recovered_low=low,
        loss_recovered_high=high,
        loss_recovered_zero=(zero - dictionary) / (zero - model) if zero > model else None,
        kl=float(sums.kl[:, number].sum() / count),
        tokens=int(count),
        windows=len(sums.tokens),
        documents=len(names),
        replaced=replaced,
        passed=passed,
    )
