"""Changing units inside the running model, and what follows from it."""

from interp.evaluate.causal.direct import Direct, direct
from interp.evaluate.causal.effect import Effect, Predictions, Range, effect
from interp.evaluate.causal.generate import continuations
from interp.evaluate.causal.graph import (
    Downstream,
    Graph,
    LogitDifference,
    Loss,
    Node,
    Target,
    attribution_graph,
)
from interp.evaluate.causal.intervene import changed, control, intervene, unchanged
from interp.evaluate.causal.part import KINDS, Intervention, Part, part

__all__ = [
    "KINDS",
    "Direct",
    "Downstream",
    "Effect",
    "Graph",
    "Intervention",
    "LogitDifference",
    "Loss",
    "Node",
    "Part",
    "Predictions",
    "Range",
    "Target",
    "attribution_graph",
    "changed",
    "continuations",
    "control",
    "direct",
    "effect",
    "intervene",
    "part",
    "unchanged",
]
