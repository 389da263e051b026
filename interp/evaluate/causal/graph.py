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

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from interp.errors import ConfigError, DataError
from interp.evaluate.causal.intervene import UNCHANGED
from interp.evaluate.causal.targets import Target
from interp.features.bases import DictionaryBasis
from interp.models import LoadedModel
from interp.products import faster_products
from interp.progress import Progress, silent
from interp.store.site import JOINT

Method = Literal["integrated", "gradient"]


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
    """Attribute a target of one number to the latents of one site; see `attribution_graphs`."""
    (graph,) = attribution_graphs(
        model, source, tokens, target, method=method, steps=steps, top=top
    )
    return graph


@faster_products()
def attribution_graphs(
    model: LoadedModel,
    source: DictionaryBasis,
    tokens: Int[Tensor, " length"],
    target: Target,
    *,
    method: Method = "integrated",
    steps: int = 16,
    top: int = 20,
    progress: Progress = silent,
) -> list[Graph]:
    """Attribute each number of a target to the latents of one site, in the same forward passes.

    Args:
        model: the model.
        source: a dictionary of one of its sites.
        tokens: one window, BOS first where there is one.
        target: what is explained.
        method: integrated gradients, or gradient × activation.
        steps: of the integral.
        top: nodes listed; the rest is summed up.
        progress: told the points of the path done.

    Raises:
        ConfigError: the basis writes elsewhere than it reads or reads several sites, a number is
            below 1, or the model predicts no next tokens.
        DataError: the window has fewer than two tokens, or the target does not depend on the site.
    """
    if steps < 1 or top < 1:
        raise ConfigError(f"steps and top must be at least 1, got {steps} and {top}")
    target.check(model)
    path = Path(model, source, tokens)
    points = [1.0, 0.0]
    if method == "integrated":
        points += [(i + 0.5) / steps for i in range(steps)]
    found: list[tuple[Float64[np.ndarray, " targets"], Tensor]] = []
    for done, share in enumerate(points):
        found.append(path.at(share, target))
        progress(done + 1, len(points), "")
    (values, last), (without, _), *inner = found
    gradients = torch.stack([each for _, each in inner]).mean(dim=0) if inner else last
    return [
        _graph(path, gradient.double(), name, method, float(value), float(base), top)
        for name, gradient, value, base in zip(
            target.names, gradients, values, without, strict=True
        )
    ]


class Path:
    """The path of a site on one window, from the dictionary's bias to the model itself."""

    def __init__(
        self, model: LoadedModel, source: DictionaryBasis, tokens: Int[Tensor, " length"]
    ) -> None:
        """Read the site and take it apart.

        Raises:
            ConfigError, DataError: see `attribution_graphs`.
        """
        dictionary = source.dictionary
        if dictionary.origin.target is not None or JOINT in source.site:
            raise ConfigError(
                f"{source.name} does not write the one site that it reads; use an SAE"
            )
        if len(tokens) <= UNCHANGED:
            raise DataError("an attribution needs a text of at least two tokens; write more")
        self.model, self.tokens = model, tokens.to(model.device)
        self.site = model.site(source.site)
        x = model.activations(self.tokens[None], [self.site])[self.site.name][0].float()
        self.rows = x[UNCHANGED:].clone()
        with torch.no_grad():
            z = dictionary.encode(self.rows.to(dictionary.W_enc.device))
            self.z = z.float().to(self.rows)
            self.bias = dictionary.b_dec.detach().to(self.rows)
            self.decoder = dictionary.directions().to(self.rows)
            self.error = self.rows - self.bias - self.z @ self.decoder

    def at(
        self, share: float, target: Target
    ) -> tuple[Float64[np.ndarray, " targets"], Float[Tensor, "targets rows width"]]:
        """A target and its gradients at a point of the path."""
        leaf = (self.bias + share * (self.rows - self.bias)).requires_grad_()

        def put(old: Tensor) -> Tensor:
            return torch.cat([old[:, :UNCHANGED], leaf[None].to(old)], dim=1)

        gradients: list[Tensor] = []
        with ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            stack.enter_context(self.model.substitute(self.site, put))
            values = target.measure(self.model, self.tokens)
            for name, value in zip(target.names, values, strict=True):
                (found,) = torch.autograd.grad(value, leaf, retain_graph=True, allow_unused=True)
                # Its type leaves out what allow_unused gives.
                gradient = cast("Tensor | None", found)
                if gradient is None:
                    raise DataError(
                        f"{name} does not depend on {self.site.name}; choose a later one"
                    )
                gradients.append(gradient)
        return values.detach().double().cpu().numpy(), torch.stack(gradients)


def _graph(
    path: Path,
    gradient: Float[Tensor, "rows width"],
    name: str,
    method: str,
    value: float,
    without: float,
    top: int,
) -> Graph:
    """Steps 2 to 4 for one number."""
    each = path.z.double() * (gradient @ path.decoder.double().T)
    order = np.argsort(-each.abs().flatten().cpu().numpy(), kind="stable")[:top]
    chosen = [(int(i) // each.shape[1], int(i) % each.shape[1]) for i in order]
    nodes = tuple(
        Node(row + UNCHANGED, latent, float(path.z[row, latent]), float(each[row, latent]))
        for row, latent in chosen
        if path.z[row, latent] > 0
    )
    return Graph(
        target=name,
        method=method,
        nodes=nodes,
        others=float(each.sum()) - sum(node.attribution for node in nodes),
        error=float((path.error.double() * gradient).sum()),
        value=value,
        without=without,
    )
