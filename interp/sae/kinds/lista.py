"""LISTA-Matryoshka: an encoder that looks twice, under nested losses sorted by frequency.

No paper: the architecture and its figures are those of D. Chanin, "Letting Claude do autonomous
research to improve SAEs" (forum post, 2026) and its published code; F1 .97 on SynthSAEBench-16k,
first version. The encoder is after Gregor & LeCun 2010, "Learning fast approximations of sparse
coding". As in that code:

1. pre₀ = (x - b_dec) W_enc + b_enc,   z₀ = relu(BatchTopK(pre₀)).
2. A look back, ``iterations`` times (theirs: once), with η = 0.3:
   pre_{t+1} = pre_t + η (x - b_dec - z_t W_dec) W_enc,   z_{t+1} = relu(BatchTopK(pre_{t+1})).
   What z_t wrote in excess, because latents overlap, is taken back, and what it missed gets a
   second chance.
3. Latents are sorted by how often they fired (an exponential mean, decay 0.99), the most frequent
   first. Prefixes of that order reconstruct, as in `interp.sae.kinds.matryoshka`, but what the
   shorter prefix wrote is held constant in the loss of the next: a group of latents answers for
   its own addition. Only the loss of all latents reaches all of them.
4. Each of these losses weighs row i by softmax_i(tilt · ℓ_i / mean ℓ), ℓ_i being its squared
   error (tilted empirical risk; tilt 0.002 is close to a plain mean).
5. k falls from a higher value (their 60 → 25): ``start_k``, which the user gives.
6. Saved with one threshold for every look, each the mean of the smallest active values, as
   BatchTopK's one.

Ours: the nested losses' mean instead of their sum, and AuxK on the last look, as in Matryoshka;
unit decoder rows; prefixes as shares of the width; thresholds corrected for their zero start. The
saved dictionary's latents are sorted, the most frequent first, so that its prefixes are those that
training reconstructed from last.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import ConfigError
from interp.sae.base import Dictionary, Origin
from interp.sae.kernels import Backend, Rule, StepResult, Weights
from interp.sae.kernels.dense import auxk, selected
from interp.sae.kinds.batchtopk import DECAY
from interp.sae.kinds.matryoshka import Matryoshka, MatryoshkaDictionary, MatryoshkaLearner
from interp.sae.penalty import check_coefficient


@dataclass(frozen=True, kw_only=True)
class Lista(Matryoshka):
    """k latents per token on average, found by looking back at what the first guess left."""

    kind: ClassVar[str] = "lista"

    iterations: int = 1
    """How often the encoder looks back at what its latents left."""
    eta: float = 0.3
    """Weight η of what a look back adds to the pre-activations."""
    tilt: float = 0.002
    """How much more rows with a large error weigh; 0 weighs all rows alike."""

    def searches(self) -> bool:
        """See `Architecture.searches`."""
        return False

    def __post_init__(self) -> None:
        """Check the settings that need no site."""
        super().__post_init__()
        if self.iterations < 1:
            raise ConfigError(f"iterations must be at least 1, got {self.iterations}")
        check_coefficient("eta", self.eta)
        check_coefficient("tilt", self.tilt)

    def learner(
        self, d_in: int, device: torch.device, backend: Backend | None = None
    ) -> "ListaLearner":
        """See `Architecture.learner`."""
        return ListaLearner(self, d_in, device)

    def dictionary(self, d_in: int, origin: Origin) -> "ListaDictionary":
        """See `Architecture.dictionary`."""
        return ListaDictionary(self, d_in, origin)


class ListaDictionary(MatryoshkaDictionary):
    """A threshold encoder whose pre-activations have been corrected by looking back."""

    kind = "lista"
    early: Tensor
    """The thresholds of the looks before the last."""

    def __init__(self, architecture: Lista, d_in: int, origin: Origin) -> None:
        """See `Dictionary`."""
        super().__init__(architecture, d_in, origin)
        self.register_buffer("early", torch.zeros(architecture.iterations))
        self._eta = architecture.eta

    def pre_activations(self, x: Float[Tensor, "n d_in"]) -> Float[Tensor, "n latents"]:
        """See `Dictionary.pre_activations`; those of the last look."""
        pre = super().pre_activations(x)
        centred = x.to(self.W_enc.dtype) - self.b_dec
        for threshold in self.early:
            left = centred - (pre * (pre > threshold)) @ self.W_dec
            pre = torch.addmm(pre, left, self.W_enc, alpha=self._eta)
        return pre


class ListaLearner(MatryoshkaLearner):
    """Also follows how often latents fire, and the thresholds of the earlier looks."""

    def __init__(self, config: Lista, d_in: int, device: torch.device) -> None:
        """Empty weights."""
        latents = config.width(d_in)
        self._frequency = torch.zeros(latents, dtype=torch.float64, device=device)
        self._early = torch.zeros(config.iterations, dtype=torch.float64, device=device)
        super().__init__(config, d_in, device)

    def nested(self, lengths: tuple[int, ...]) -> "ListaBackend":
        """See `MatryoshkaLearner.nested`."""
        assert isinstance(self.config, Lista)
        return ListaBackend(self.config, lengths, self._order())

    def step(
        self, x: Float[Tensor, "n d_in"], variance: float, dead: Bool[Tensor, " latents"] | None
    ) -> StepResult:
        """See `Learner.step`."""
        result = super().step(x, variance, dead)
        assert isinstance(self.backend, ListaBackend)
        self._early.mul_(DECAY).add_(self.backend.early.double(), alpha=1 - DECAY)
        self._frequency.mul_(DECAY).add_(self.backend.frequency.double(), alpha=1 - DECAY)
        return result

    def state(self) -> dict[str, Tensor]:
        """See `Learner.state`."""
        return {**super().state(), "early_mean": self._early, "frequency": self._frequency}

    def dictionary(self, empty: Dictionary, scale: float) -> Dictionary:
        """See `Learner.dictionary`; the most frequent latents first."""
        assert isinstance(empty, ListaDictionary)
        filled, order = super().dictionary(empty, scale), self._order()
        empty.early.copy_(self.mean(self._early) / scale)
        with torch.no_grad():
            filled.W_enc.copy_(filled.W_enc[:, order])
            filled.b_enc.copy_(filled.b_enc[order])
            filled.W_dec.copy_(filled.W_dec[order])
        return filled

    def _order(self) -> Int[Tensor, " latents"]:
        return self._frequency.argsort(descending=True, stable=True)


class ListaBackend:
    """The step as it is written, differentiated by autograd."""

    def __init__(self, config: Lista, lengths: tuple[int, ...], order: Int[Tensor, " latents"]):
        """Lengths of the prefixes of ``order``, ascending, the last all latents."""
        self.config, self.lengths, self.order = config, lengths, order
        self.early = torch.zeros(config.iterations)
        """Of the last step: the smallest active value of each look before the last."""
        self.frequency = torch.zeros(len(order))
        """Of the last step: the share of its rows on which each latent fired."""

    def step(
        self,
        weights: Weights,
        x: Float[Tensor, "n d_in"],
        rule: Rule,
        variance: float,
        dead: Bool[Tensor, " latents"] | None = None,
    ) -> StepResult:
        """See `Backend.step`; ``unexplained`` is that of the whole dictionary, untilted."""
        leaves = [tensor.detach().requires_grad_() for _, tensor in weights.items()]
        with torch.enable_grad():
            encoder, b_enc, decoder, b_dec = leaves
            centred = x - b_dec
            pre = torch.addmm(b_enc, centred, encoder.T)
            looks = [selected(pre, rule.k, rule.per)]
            for _ in range(self.config.iterations):
                left = centred - looks[-1] @ decoder
                pre = torch.addmm(pre, left, encoder.T, alpha=self.config.eta)
                looks.append(selected(pre, rule.k, rule.per))
            z = looks[-1]
            whole = centred - z @ decoder
            errors = [*self._inner(centred, z, decoder), whole]
            each = [tilted(error.square().sum(dim=1), self.config.tilt) for error in errors]
            aux = auxk(pre, whole.detach(), decoder, rule, dead)
            loss = torch.stack(each).mean() / variance + rule.aux_coefficient * aux
            gradients = weights.like(torch.autograd.grad(loss, leaves))
        active = z.detach() > 0
        self.early = torch.stack([_smallest(look.detach()) for look in looks[:-1]])
        self.frequency = active.to(x.dtype).mean(dim=0)
        return StepResult(
            loss=loss.detach(),
            unexplained=whole.detach().square().sum() / (len(x) * variance),
            aux=aux.detach(),
            gradients=gradients,
            fired=active.any(dim=0),
            l0=active.sum().to(x.dtype) / len(x),
            smallest=_smallest(z.detach()),
        )

    def _inner(
        self,
        centred: Float[Tensor, "n d_in"],
        z: Float[Tensor, "n latents"],
        decoder: Float[Tensor, "latents d_in"],
    ) -> list[Float[Tensor, "n d_in"]]:
        """What each prefix but the whole leaves, the shorter one's share held constant."""
        errors: list[Tensor] = []
        left = centred
        for start, end in pairwise((0, *self.lengths[:-1])):
            group = self.order[start:end]
            left = (left.detach() if errors else left) - z[:, group] @ decoder[group]
            errors.append(left)
        return errors


def tilted(losses: Float[Tensor, " n"], tilt: float) -> Float[Tensor, ""]:
    """A mean of losses ≥ 0 that weighs the larger more: by softmax(tilt · loss / mean)."""
    held = losses.detach()
    mean = held.mean().clamp_min(torch.finfo(held.dtype).tiny)
    return torch.softmax(tilt * held / mean, dim=0) @ losses


def _smallest(z: Float[Tensor, "n latents"]) -> Float[Tensor, ""]:
    return z[z > 0].min() if (z > 0).any() else z.new_zeros(())
