"""What dictionaries share whose sparsity comes from a penalty, not from a count of latents.

An architecture of this family states its loss as a sum of terms over (row, latent) pairs, and
below which floor a pair counts for nothing. The step differentiates it by autograd: over all pairs
in dense [n, latents] arrays, or, once few lie above the floor, over a list of those
(`interp.sae.kernels.pairs`; the same numbers either way). On a CPU the dense arrays are of ``ROWS``
rows at a time, where the loss is a mean over rows: fresh large arrays cost it more than the sums.

    loss = unexplained + sparsity + aux
    unexplained = Σ‖x - x̂‖² / (n·v)          as in `interp.sae.kernels.interface`, so that learning
                                              rates and coefficients mean the same at every site
    sparsity    = coefficient · ramp · (the architecture's penalty)
    aux         = coefficient · (help for dead latents), and whatever else the architecture adds

The ramp rises linearly from 0 to 1 over the run's first ``sparsity_warmup`` (Anthropic, April
2024 update): a full penalty on random weights kills latents before they have learnt anything.

Dead latents of this family have only pre-activations at or below their threshold, so AuxK, which
passes positive values on, cannot reach them. Their pre-activations are pulled up instead
(Conerly et al., Anthropic, January 2025 update):

    preact = Σ_{i, dead j} relu(θ_j - pre_ij) / (n·√v)

The update applies it to every latent at a weight of 3e-6; here, as in SAELens, it reaches only
those that the trainer calls dead, and may weigh more: on planted features 0.1 left none dead where
0 left 2% so.

Gradients are clipped to norm 1 unless `TrainConfig.clip` says otherwise, as Conerly et al. and
SAELens do. Before the penalty has thinned the latents, gradients are many times longer than after;
Adam remembers their squares for a thousand steps, and its steps are too short for as long. On
SmolLM2 a Gated dictionary so reached FVE .730 with 16 latents a token instead of .713 with 39
(`interp/sae/README.md`).
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import ConfigError
from interp.sae.accumulate import joined
from interp.sae.architecture import Architecture
from interp.sae.kernels import StepResult, Weights
from interp.sae.kernels.clock import timed
from interp.sae.kernels.gradients import Sums
from interp.sae.kernels.pairs import AllPairs, Pairs
from interp.sae.kernels.scratch import Scratch
from interp.sae.learner import Learner

ROWS = 512
"""Rows in one dense array on a CPU."""


@dataclass(frozen=True, kw_only=True)
class PenaltyArchitecture(Architecture):
    """Settings of the family."""

    sparsity_warmup: float = 0.05
    """Share of the run over which the sparsity penalty rises from zero (Anthropic, April 2024)."""
    preact_coefficient: float = 0.1
    """Weight of the loss that pulls dead latents' pre-activations up; 0 turns it off."""

    def __post_init__(self) -> None:
        """Check the settings that need no site."""
        super().__post_init__()
        if not 0 <= self.sparsity_warmup <= 1:
            raise ConfigError(
                f"sparsity_warmup is a share of the run, in 0..1, got {self.sparsity_warmup}"
            )
        check_coefficient("preact_coefficient", self.preact_coefficient)

    def by_rows(self) -> bool:
        """See `Architecture.by_rows`."""
        return True

    def ramp(self, progress: float) -> float:
        """The share of the full penalty after a share ``progress`` of the run."""
        return min(1.0, progress / self.sparsity_warmup) if self.sparsity_warmup else 1.0


def check_coefficient(name: str, value: float) -> None:
    """Refuse a weight of a loss term that is negative, infinite or no number.

    Raises:
        ConfigError: it is.
    """
    if not 0 <= value < float("inf"):
        raise ConfigError(f"{name} must be a number ≥ 0, got {value}; 0 turns it off")


@dataclass(frozen=True, kw_only=True)
class L1Architecture(PenaltyArchitecture):
    """Settings of those whose penalty is a sum of values."""

    l1_coefficient: float = 0.2
    """Weight λ of the summed values, in units of the site's standard deviation."""

    def __post_init__(self) -> None:
        """Check the settings that need no site."""
        super().__post_init__()
        check_coefficient("l1_coefficient", self.l1_coefficient)

    def label(self, d_in: int) -> str:
        """See `Architecture.label`."""
        return f"{self.kind}-{self.width(d_in)}-c{self.l1_coefficient:g}"


@dataclass(frozen=True)
class Terms:
    """A batch's latents and its loss terms, each weighted: their sum is the loss."""

    z: Float[Tensor, "*pairs"]
    unexplained: Float[Tensor, ""]
    sparsity: Float[Tensor, ""]
    aux: Float[Tensor, ""]

    @property
    def loss(self) -> Float[Tensor, ""]:
        """Their sum."""
        return self.unexplained + self.sparsity + self.aux


class PenaltyLearner(Learner):
    """Differentiates the terms that a subclass states."""

    clip = 1.0

    def __init__(
        self,
        d_in: int,
        latents: int,
        device: torch.device,
        extra: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        """See `Learner`."""
        super().__init__(d_in, latents, device, extra)
        self._scratch = Scratch()

    @abstractmethod
    def loss(self, pairs: Pairs, dead: Bool[Tensor, " latents"] | None) -> Terms:
        """The loss of a batch, differentiable by the weights of ``pairs``."""

    @abstractmethod
    def floor(self) -> Float[Tensor, " latents"]:
        """What a pre-activation must exceed to be active, to pay or to pass a gradient on."""

    def observe(self, pairs: Pairs, z: Float[Tensor, "*pairs"]) -> None:  # noqa: B027
        """Advance the architecture's own state by a batch's latents, if it has any."""

    def terms(
        self,
        weights: Weights,
        x: Float[Tensor, "n d_in"],
        variance: float,
        dead: Bool[Tensor, " latents"] | None,
    ) -> Terms:
        """The loss of a batch under any weights, over all pairs."""
        return self.loss(AllPairs(weights, x, variance), dead)

    def additive(self) -> bool:
        """Whether the loss is a mean over rows, so that a batch may go through in parts."""
        return True

    def step(
        self, x: Float[Tensor, "n d_in"], variance: float, dead: Bool[Tensor, " latents"] | None
    ) -> StepResult:
        """See `Learner.step`."""
        if not self.lists:
            return self._textbook(x, variance, dead)
        sums, total = Sums(self.weights, self._scratch), None
        for pairs, way in self._parts(sums, x, variance):
            share = pairs.n / len(x)
            with torch.enable_grad(), timed(way):
                terms = self.loss(pairs, dead)
                sums.differentiate(terms.loss * share)
            total = joined(total, self._result(pairs, terms, self.weights), share)
        assert total is not None
        return replace(total, gradients=sums.finish())

    def _parts(self, sums: Sums, x: Tensor, variance: float) -> Iterator[tuple[Pairs, str]]:
        """The batch, listed where its first rows say so, as many rows at a time as memory asks."""
        from interp.sae.kernels.densepairs import DensePairs  # numba is slow to import
        from interp.sae.kernels.listedpairs import DENSITY, ENTRIES, ListedPairs, find

        given, floor = (self._scratch, self.weights), self.floor()
        entries = ENTRIES if self.additive() else None
        found, start = find(*given, x, floor, density=DENSITY, entries=entries), 0
        if found is None:
            for part in x.split(ROWS if self.additive() else len(x)):
                yield DensePairs(sums, part, variance), "dense"
        while found is not None:
            yield ListedPairs(sums, found, variance), "listed"
            start, found = start + len(found.x), None
            if start < len(x):
                found = find(*given, x[start:], floor, density=1.0, entries=entries)

    def _textbook(self, x: Tensor, variance: float, dead: Tensor | None) -> StepResult:
        leaves = [t.detach().requires_grad_() for _, t in self.weights.items()]
        pairs = AllPairs(self.weights.like(leaves), x, variance)
        with torch.enable_grad(), timed("dense"):
            terms = self.loss(pairs, dead)
            gradients = torch.autograd.grad(terms.loss, leaves)
        return self._result(pairs, terms, self.weights.like(gradients))

    @torch.no_grad()
    def _result(self, pairs: Pairs, terms: Terms, gradients: Weights) -> StepResult:
        z = terms.z.detach()
        self.observe(pairs, z)
        counts, smallest = pairs.fired(z)
        return StepResult(
            loss=terms.loss.detach(),
            unexplained=terms.unexplained.detach(),
            aux=terms.aux.detach(),
            gradients=gradients,
            fired=counts > 0,
            l0=counts.sum().to(z.dtype) / pairs.n,
            smallest=smallest,
        )


def unexplained(
    x: Float[Tensor, "n d_in"], estimate: Float[Tensor, "n d_in"], variance: float
) -> Float[Tensor, ""]:
    """The fraction of the site's variance that an estimate leaves unexplained."""
    return (x - estimate).square().sum() / (len(x) * variance)


def preact_loss(
    pairs: Pairs,
    pre: Float[Tensor, "*pairs"],
    threshold: Float[Tensor, " latents"] | float,
    dead: Bool[Tensor, " latents"] | None,
    of: Float[Tensor, " latents"] | float = 1.0,
) -> Float[Tensor, ""]:
    """How far dead latents stay below their thresholds, on average; 0 without dead latents.

    Args:
        pairs: the batch.
        pre: its pre-activations.
        threshold: at or above every latent's floor.
        dead: which are to be helped.
        of: how much each latent counts, held constant.
    """
    if dead is None or not dead.any():
        return pairs.x.new_zeros(())
    below = pairs.below(pre, threshold, (dead * of).to(pairs.x.dtype))
    return below / (pairs.n * pairs.variance**0.5)
