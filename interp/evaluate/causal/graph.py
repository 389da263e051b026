"""A small attribution graph: which latents of one site lead to a target on one prompt.

Gradient × activation, and integrated gradients (Sundararajan, Taly & Yan 2017, "Axiomatic
Attribution for Deep Networks"), over a dictionary's latents as in Marks et al. 2024, "Sparse
Feature Circuits", 2403.19647. At each position but the first

    x = b_dec + Σ_j z_j d_j + e             latents, and what the dictionary does not reconstruct

so the target m is a function of the path x(α) = b_dec + α (Σ_j z_j d_j + e), from α = 0, where the
site holds the dictionary's bias alone, to α = 1, the model itself.

1. g(α) = ∂m/∂x at x(α).
2. Integrated gradients: attribution of latent j at a position = z_j d_j · ∫ g(α) dα, of the error
   e · ∫ g(α) dα, by the midpoint rule in `steps` steps.
3. Gradient × activation: the same with g(1) in place of the integral.
4. Completeness: Σ attributions over m(1) - m(0). It is 1 for integrated gradients but for the
   error of the midpoint rule; for gradient × activation it says how far the path is from linear.

The first position, BOS or an attention sink, is no part of the path and stays as it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from interp.errors import ConfigError, DataError
from interp.evaluate.causal.intervene import UNCHANGED, require_predictions
from interp.features.bases import Basis, DictionaryBasis, NeuronBasis
from interp.models import LoadedModel
from interp.store.site import JOINT, Site

Method = Literal["integrated", "gradient"]


class Target(ABC):
    """A number of a forward pass that something leads to."""

    name: str

    @abstractmethod
    def measure(self, model: LoadedModel, tokens: Int[Tensor, " length"]) -> Float[Tensor, ""]:
        """Run the model over a window and return the number, with its gradient."""


class LogitDifference(Target):
    """Logit of one token less that of another, after the last position."""

    def __init__(self, token: int, other: int) -> None:
        """Which tokens."""
        self.token, self.other = token, other
        self.name = f"logit of token {token} less that of {other}"

    def measure(self, model: LoadedModel, tokens: Int[Tensor, " length"]) -> Float[Tensor, ""]:
        """See `Target.measure`."""
        logits = model.forward(tokens[None])[0, -1].float()
        return logits[self.token] - logits[self.other]


class Loss(Target):
    """Mean cross-entropy of the window's tokens, nats."""

    name = "cross-entropy"

    def measure(self, model: LoadedModel, tokens: Int[Tensor, " length"]) -> Float[Tensor, ""]:
        """See `Target.measure`."""
        logits = model.forward(tokens[None])[0, :-1].float()
        return cross_entropy(logits, tokens[1:])


class Downstream(Target):
    """The activation of a unit of a later site, at one position."""

    def __init__(self, site: Site, basis: Basis, index: int, position: int = -1) -> None:
        """A neuron or a latent.

        Raises:
            ConfigError: another kind of unit, which has no gradient here, or none of that index.
        """
        if not isinstance(basis, NeuronBasis | DictionaryBasis):
            raise ConfigError(
                f"{basis.name} has no gradient here; choose a neuron or a latent as the target"
            )
        if not 0 <= index < basis.n_units:
            raise ConfigError(f"{basis.name} has units 0 to {basis.n_units - 1}, not {index}")
        self.site, self._index, self._position = site, index, position
        encode = basis.encode if isinstance(basis, NeuronBasis) else basis.dictionary.encode
        self._encode: Callable[[Tensor], Tensor] = encode
        self.name = f"{site.name}/{basis.name}/{index}"

    def measure(self, model: LoadedModel, tokens: Int[Tensor, " length"]) -> Float[Tensor, ""]:
        """See `Target.measure`."""
        seen: list[Tensor] = []

        def look(x: Tensor) -> Tensor:
            seen.append(x[0])
            return x

        stop = None if self.site.layer is None else self.site.layer + 1
        with model.substitute(self.site, look):
            model.run(tokens[None], stop_at_layer=stop)
        return self._encode(seen[0][self._position][None].float())[0, self._index]


@dataclass(frozen=True)
class Node:
    """One latent at one position."""

    position: int
    latent: int
    activation: float
    attribution: float


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Everything of one site that leads to a target on a window."""

    target: str
    method: str
    nodes: tuple[Node, ...]
    """The largest attributions by size."""
    others: float
    """Sum over all other active latents."""
    error: float
    """What the dictionary does not reconstruct."""
    value: float
    """The target, as the model has it."""
    without: float
    """The target with the site holding the dictionary's bias alone."""

    @property
    def attributed(self) -> float:
        """Sum of all attributions, the error's among them."""
        return sum(node.attribution for node in self.nodes) + self.others + self.error

    @property
    def completeness(self) -> float:
        """Attributed share of the actual difference; NaN where there is none."""
        actual = self.value - self.without
        return self.attributed / actual if abs(actual) > 1e-9 else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        share = self.completeness
        return {
            **asdict(self),
            "attributed": self.attributed,
            "completeness": share if share == share else None,
        }


def attribution_graph(
    model: LoadedModel,
    source: DictionaryBasis,
    tokens: Int[Tensor, " length"],
    target: Target,
    *,
    method: Method = "integrated",
    steps: int = 16,
    top: int = 20,
) -> Graph:
    """Attribute a target to the latents of one site.

    Args:
        model: the model.
        source: a dictionary of one of its sites.
        tokens: one window, BOS first where there is one.
        target: what is explained.
        method: integrated gradients, or gradient × activation.
        steps: of the integral.
        top: nodes listed; the rest is summed up.

    Raises:
        ConfigError: the basis writes elsewhere than it reads or reads several sites, a number is
            below 1, or the model predicts no next tokens.
        DataError: the window has fewer than two tokens, or the target does not depend on the site.
    """
    dictionary = source.dictionary
    if dictionary.origin.target is not None or JOINT in source.site:
        raise ConfigError(f"{source.name} does not write the one site that it reads; use an SAE")
    if steps < 1 or top < 1:
        raise ConfigError(f"steps and top must be at least 1, got {steps} and {top}")
    if not isinstance(target, Downstream):
        require_predictions(model)
    if len(tokens) <= UNCHANGED:
        raise DataError("an attribution needs a text of at least two tokens; write more")
    tokens, site = tokens.to(model.device), model.site(source.site)
    x = model.activations(tokens[None], [site])[site.name][0].float()
    rows = x[UNCHANGED:].clone()
    with torch.no_grad():
        z = dictionary.encode(rows.to(dictionary.W_enc.device)).float().to(rows)
        bias = dictionary.b_dec.detach().to(rows)
        decoder = dictionary.directions().to(rows)
        error = rows - bias - z @ decoder

    def at(share: float) -> tuple[float, Tensor]:
        """The target and its gradient at a point of the path."""
        leaf = (bias + share * (rows - bias)).requires_grad_()

        def put(old: Tensor) -> Tensor:
            return torch.cat([old[:, :UNCHANGED], leaf[None].to(old)], dim=1)

        with ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            stack.enter_context(model.substitute(site, put))
            value = target.measure(model, tokens)
            (found,) = torch.autograd.grad(value, leaf, allow_unused=True)
        gradient = cast("Tensor | None", found)  # its type leaves out what allow_unused gives
        if gradient is None:
            raise DataError(f"{target.name} does not depend on {site.name}; choose a later one")
        return float(value.detach()), gradient

    value, last = at(1.0)
    without, _ = at(0.0)
    if method == "gradient":
        gradient = last
    else:
        gradient = torch.stack([at((i + 0.5) / steps)[1] for i in range(steps)]).mean(dim=0)
    each = z.double() * (gradient.double() @ decoder.double().T)
    order = np.argsort(-each.abs().flatten().cpu().numpy(), kind="stable")[:top]
    chosen = [(int(i) // each.shape[1], int(i) % each.shape[1]) for i in order]
    nodes = tuple(
        Node(row + UNCHANGED, latent, float(z[row, latent]), float(each[row, latent]))
        for row, latent in chosen
        if z[row, latent] > 0
    )
    return Graph(
        target=target.name,
        method=method,
        nodes=nodes,
        others=float(each.sum()) - sum(node.attribution for node in nodes),
        error=float((error.double() * gradient.double()).sum()),
        value=value,
        without=without,
    )
