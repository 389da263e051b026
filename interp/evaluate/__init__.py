"""How good a dictionary is, on documents it was not trained on."""

from interp.evaluate.downstream import Downstream, downstream
from interp.evaluate.report import Report, evaluate, table

__all__ = ["Downstream", "Report", "downstream", "evaluate", "table"]
