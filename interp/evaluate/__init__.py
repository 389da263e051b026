"""How good a dictionary is, on documents it was not trained on."""

from interp.evaluate.candidate import Candidate, candidate
from interp.evaluate.downstream import Downstream, downstream
from interp.evaluate.fidelity import Fidelity, measure
from interp.evaluate.perturbation import Perturbation, perturb
from interp.evaluate.probing import Probe, probe
from interp.evaluate.report import Report, compare, evaluate, table, variants
from interp.evaluate.shared import Comparison, Overlap, shared

__all__ = [
    "Candidate",
    "Comparison",
    "Downstream",
    "Fidelity",
    "Overlap",
    "Perturbation",
    "Probe",
    "Report",
    "candidate",
    "compare",
    "downstream",
    "evaluate",
    "measure",
    "perturb",
    "probe",
    "shared",
    "table",
    "variants",
]
