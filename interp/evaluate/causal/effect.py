"""What changing a unit costs and does, beside random directions changed as much.

For a text, over its predicted tokens (all but the first position of the window), with p the
model's distribution and p' that with the unit changed:

    ΔCE = mean of log p(token) - log p'(token), nats        above 0: the change hurts
    KL  = mean KL(p ‖ p'), nats
    changed = share of positions whose most likely token is another one

Each stands beside the same figure of random directions of matched norm, as their mean and their
95 % range over seeds (`interp.evaluate.causal.intervene`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from interp.errors import ConfigError, DataError
from interp.evaluate.causal.intervene import Change, changed, control, require_predictions
from interp.evaluate.causal.part import Intervention, Part
from interp.models import LoadedModel
from interp.products import faster_products

TOP = 8
"""Most likely tokens kept of each position."""
SEEDS = 5
"""Random directions to compare with."""


@dataclass(frozen=True)
class Range:
    """A figure over seeds or resamples."""

    mean: float
    low: float
    """2.5 % quantile."""
    high: float
    """97.5 % quantile."""

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> "Range":
        """Mean and quantiles."""
        low, high = np.quantile(values, [0.025, 0.975]).tolist()
        return cls(float(np.mean(values)), low, high)


@dataclass(frozen=True)
class Predictions:
    """What a model predicts after each position of a window."""

    top: Int[np.ndarray, "length k"]
    """Most likely next tokens, the likeliest first."""
    probability: Float[np.ndarray, "length k"]
    """Theirs."""
    loss: Float[np.ndarray, " predicted"]
    """-log p of each token but the first, nats."""
    kl: Float[np.ndarray, " length"]
    """KL from the unchanged model at each position, nats; 0 for that model itself."""


@dataclass(frozen=True)
class Effect:
    """An intervention on one window."""

    tokens: Int[np.ndarray, " length"]
    """What the model read."""
    before: Predictions
    after: Predictions
    controls: tuple[Predictions, ...]
    """Random directions, one a seed."""

    @property
    def delta_ce(self) -> float:
        """ΔCE, nats per predicted token; NaN where none follows a changed position."""
        return _delta(self.before, self.after)

    @property
    def control_delta_ce(self) -> Range:
        """The same for random directions."""
        return Range.of([_delta(self.before, each) for each in self.controls])

    @property
    def kl(self) -> float:
        """KL, nats per position that was changed or lies behind one."""
        return float(self.after.kl[1:].mean())

    @property
    def control_kl(self) -> Range:
        """The same for random directions."""
        return Range.of([float(each.kl[1:].mean()) for each in self.controls])

    @property
    def changed(self) -> float:
        """Share of positions whose most likely token is another one."""
        return _changed(self.before, self.after)

    @property
    def control_changed(self) -> Range:
        """The same for random directions."""
        return Range.of([_changed(self.before, each) for each in self.controls])


@faster_products()
@torch.no_grad()
def effect(
    model: LoadedModel,
    part: Part,
    intervention: Intervention,
    tokens: Int[Tensor, " length"],
    *,
    seeds: int = SEEDS,
    seed: int = 0,
) -> Effect:
    """Run the model over a window as it is, with the unit changed, and with the controls.

    Args:
        model: the model.
        part: the unit.
        intervention: what is done to it.
        tokens: one window as the model reads it, BOS first where there is one.
        seeds: how many random directions.
        seed: of the first of them.

    Raises:
        ConfigError: the model predicts no next tokens, or ``seeds`` is below 1.
        DataError: the window is shorter than two tokens or longer than the model reads.
    """
    require_predictions(model)
    if seeds < 1:
        raise ConfigError(f"seeds must be at least 1, got {seeds}")
    if len(tokens) < 2:
        raise DataError("an effect needs a text of at least two tokens; write more")
    tokens = tokens.to(model.device)
    truth = log_softmax(model.forward(tokens[None])[0].float(), dim=-1)

    def run(change: Change) -> Predictions:
        with model.substitute(part.site, change):
            logits = model.forward(tokens[None])[0]
        return _predictions(log_softmax(logits.float(), dim=-1), truth, tokens)

    return Effect(
        tokens=tokens.cpu().numpy(),
        before=_predictions(truth, truth, tokens),
        after=run(changed(part, intervention)),
        controls=tuple(run(control(part, intervention, seed + each)) for each in range(seeds)),
    )


def _predictions(
    found: Float[Tensor, "length vocab"], truth: Float[Tensor, "length vocab"], tokens: Tensor
) -> Predictions:
    best = found.topk(min(TOP, found.shape[1]), dim=-1)
    kl = kl_div(found, truth, reduction="none", log_target=True).sum(dim=-1, dtype=torch.float64)
    return Predictions(
        top=best.indices.cpu().numpy(),
        probability=best.values.exp().cpu().numpy(),
        loss=-found[:-1].gather(1, tokens[1:, None])[:, 0].double().cpu().numpy(),
        kl=kl.clamp_min(0).cpu().numpy(),
    )


def _delta(before: Predictions, after: Predictions) -> float:
    return (
        float((after.loss[1:] - before.loss[1:]).mean()) if len(before.loss) > 1 else float("nan")
    )


def _changed(before: Predictions, after: Predictions) -> float:
    return float((before.top[1:, 0] != after.top[1:, 0]).mean())
