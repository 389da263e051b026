"""Changing units inside the running model, and what follows from it."""

from interp.evaluate.causal.direct import Direct, direct
from interp.evaluate.causal.effect import Effect, Predictions, Range, effect
from interp.evaluate.causal.generate import continuations
from interp.evaluate.causal.graph import Graph, Node, attribution_graph, attribution_graphs
from interp.evaluate.causal.intervene import changed, control, intervene, unchanged
from interp.evaluate.causal.part import KINDS, Intervention, Part, part
from interp.evaluate.causal.targets import (
    Downstream,
    LogitDifference,
    Loss,
    PreActivations,
    Target,
)
from interp.evaluate.causal.trace import Trace, TraceConfig, trace

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
    "PreActivations",
    "Predictions",
    "Range",
    "Target",
    "Trace",
    "TraceConfig",
    "attribution_graph",
    "attribution_graphs",
    "changed",
    "continuations",
    "control",
    "direct",
    "effect",
    "intervene",
    "part",
    "trace",
    "unchanged",
]
