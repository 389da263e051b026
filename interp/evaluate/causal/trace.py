"""A prompt traced through dictionaries of several sites, from latents to the next token.

1. The target is the logit of one token after the prompt less that of another, the baseline; by
   default of the likeliest token and of the next one.
2. Each site's latents are attributed to it (`interp.evaluate.causal.graph`). Each site is explained
   as a whole, so what a later site repeats of an earlier one stands in both.
3. Edges: the pre-activation of each latent found at a site is attributed to the latents of the site
   before it. What neither site's latents carry is the edge's error and the others' sum.
4. Direct logit attribution (`interp.evaluate.causal.direct`): what a latent at the last position
   adds to the same difference by the straight path. Latents elsewhere have none, exactly.

Completeness stands beside every sum: how much of the actual difference it accounts for.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.config import to_dict
from interp.errors import ConfigError
from interp.evaluate.causal.direct import divisor
from interp.evaluate.causal.graph import Graph, Method, Path, attribution_graphs
from interp.evaluate.causal.intervene import require_predictions
from interp.evaluate.causal.prompt import Token, compared, text_of, window
from interp.evaluate.causal.targets import LogitDifference, PreActivations
from interp.features.bases import DictionaryBasis
from interp.models import LoadedModel
from interp.products import faster_products
from interp.progress import Part, Progress, silent
from interp.provenance import Provenance

PROMOTED = 3
"""Tokens listed that a latent promotes by the straight path."""


@dataclass(frozen=True, kw_only=True)
class TraceConfig:
    """How a prompt is traced."""

    method: Method = "integrated"
    """Integrated gradients, or gradient × activation."""
    steps: int = 16
    """Of the integral."""
    top: int = 10
    """Latents listed of each site, and edges into each of them; the rest is summed up."""

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if min(self.steps, self.top) < 1:
            raise ConfigError(f"steps and top must be at least 1, got {self.steps}, {self.top}")


@dataclass(frozen=True, kw_only=True)
class Direct:
    """Straight paths from a site's last position to the logit difference; they add up."""

    nodes: tuple[float, ...]
    """Of the graph's nodes, in their order; 0 at other positions than the last."""
    latents: float
    """Of all latents."""
    error: float
    """Of what the dictionary does not reconstruct."""
    bias: float
    """Of the dictionary's bias."""
    promoted: tuple[tuple[str, ...], ...]
    """Tokens that each node's direction raises most."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One site of a trace."""

    site: str
    dictionary: str
    graph: Graph
    """Its latents to the logit difference."""
    direct: Direct | None
    """None where the site does not write linearly to the residual stream."""
    edges: tuple[Graph, ...]
    """Into each node of the graph from the site before, none at the first site."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A prompt, its target and every site's part in it."""

    model: str
    prompt: str
    tokens: tuple[str, ...]
    """The window as read, BOS first where there is one."""
    target: Token
    baseline: Token
    stages: tuple[Stage, ...]
    """In the order of the model."""
    provenance: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        plain = asdict(self)
        for stage, written in zip(self.stages, plain["stages"], strict=True):
            written["graph"] = stage.graph.to_dict()
            written["edges"] = [edge.to_dict() for edge in stage.edges]
        return plain


@faster_products()
def trace(
    model: LoadedModel,
    sources: Sequence[DictionaryBasis],
    prompt: str,
    *,
    token: str | None = None,
    baseline: str | None = None,
    config: TraceConfig | None = None,
    progress: Progress = silent,
) -> Trace:
    """Trace a prompt through dictionaries of one or several sites.

    Args:
        model: the model.
        sources: dictionaries, each of one site of its own.
        prompt: the text that the model goes on from.
        token: text of the one token that is explained; the likeliest if None.
        baseline: text of the one token it is compared with; the likeliest other one if None.
        config: settings; the defaults if None.
        progress: told the points of the paths done.

    Raises:
        ConfigError: no source, two of one site, one that writes elsewhere than it reads, a text
            that is not one token, or a model that reads or predicts no text.
        DataError: the prompt is empty or longer than the model reads, or a site does not lead to
            the logits.
        UnknownName: the model has no such site.
    """
    settings = config or TraceConfig()
    require_predictions(model)
    chosen = _ordered(model, sources)
    ids = window(model, prompt)
    target, other = compared(model, ids, token, baseline)
    stages: list[Stage] = []
    options: dict[str, Any] = {"method": settings.method, "steps": settings.steps}
    for number, source in enumerate(chosen):
        told = Part(progress, number, len(chosen))
        difference = LogitDifference(target.token, other.token)
        (graph,) = attribution_graphs(
            model, source, ids, difference, top=settings.top, **options, progress=told
        )
        edges: list[Graph] = []
        places = [(node.position, node.latent) for node in graph.nodes]
        if number and places:
            later = PreActivations(model.site(source.site), source, places)
            before = chosen[number - 1]
            edges = attribution_graphs(
                model, before, ids, later, top=settings.top, **options, progress=told
            )
        stages.append(
            Stage(
                site=source.site,
                dictionary=source.name,
                graph=graph,
                direct=_direct(model, source, ids, graph, target.token, other.token),
                edges=tuple(edges),
            )
        )
    asked = {"prompt": prompt, "token": token, "baseline": baseline, **to_dict(settings)}
    parents = {model.name: model.digest}
    parents |= {f"{source.site}/{source.name}": source.fingerprint for source in chosen}
    return Trace(
        model=model.name,
        prompt=prompt,
        tokens=tuple(text_of(model, each) for each in ids.tolist()),
        target=target,
        baseline=other,
        stages=tuple(stages),
        provenance=Provenance(job="trace", seed=0, config=asked, parents=parents).to_dict(),
    )


def _ordered(model: LoadedModel, sources: Sequence[DictionaryBasis]) -> list[DictionaryBasis]:
    """Sources as the model comes to their sites."""
    sites = [source.site for source in sources]
    if not sites or len(set(sites)) < len(sites):
        raise ConfigError("a trace needs at least one dictionary, each of a site of its own")
    order = list(model.sites())

    def place(source: DictionaryBasis) -> tuple[int, bool, int]:
        site = model.site(source.site)
        layer = model.n_layers if site.layer is None else site.layer
        whole = site.name if site.name in order else site.name.rsplit(".", 1)[0]  # a head's
        return layer, site.name.startswith("resid_post"), order.index(whole)

    return sorted(sources, key=place)


@torch.no_grad()
def _direct(
    model: LoadedModel,
    source: DictionaryBasis,
    ids: Int[Tensor, " length"],
    graph: Graph,
    token: int,
    other: int,
) -> Direct | None:
    path = Path(model, source, ids)
    latents = [node.latent for node in graph.nodes]
    last = len(ids) - 1
    scale = divisor(model, ids)[last]

    def logits(directions: Float[Tensor, "n width"]) -> Float[Tensor, "n vocab"] | None:
        written = model.write_directions(path.site, directions)
        return None if written is None else model.logit_lens(written)

    def difference(found: Float[Tensor, "n vocab"]) -> Float[Tensor, " n"]:
        return (found[:, token] - found[:, other]) / scale

    whole = path.z[-1] @ path.decoder
    parts = logits(torch.stack([whole, path.error[-1], path.bias]))
    nodes = logits(path.decoder[latents])
    if parts is None or nodes is None:
        return None
    steps = difference(nodes).tolist()
    sums: list[float] = difference(parts).tolist()
    best = nodes.topk(min(PROMOTED, nodes.shape[1]), dim=1).indices.tolist()
    return Direct(
        nodes=tuple(
            step * node.activation if node.position == last else 0.0
            for step, node in zip(steps, graph.nodes, strict=True)
        ),
        latents=sums[0],
        error=sums[1],
        bias=sums[2],
        promoted=tuple(tuple(text_of(model, each) for each in some) for some in best),
    )
