"""How good a dictionary is, on documents it was not trained on."""

from interp.evaluate.absorption import Absorption, absorption
from interp.evaluate.candidate import Candidate, candidate
from interp.evaluate.downstream import Downstream, downstream
from interp.evaluate.fidelity import Fidelity, measure
from interp.evaluate.isolation import Isolation, isolation
from interp.evaluate.over_seeds import OverSeeds, over_seeds
from interp.evaluate.perturbation import Perturbation, perturb
from interp.evaluate.probing import Probe, probe
from interp.evaluate.report import Report, compare, evaluate, table, variants
from interp.evaluate.shared import Comparison, Overlap, shared
from interp.evaluate.spelling import Spelling, spelling
from interp.evaluate.spurious import Removal, remove_spurious

__all__ = [
    "Absorption",
    "Candidate",
    "Comparison",
    "Downstream",
    "Fidelity",
    "Isolation",
    "OverSeeds",
    "Overlap",
    "Perturbation",
    "Probe",
    "Removal",
    "Report",
    "Spelling",
    "absorption",
    "candidate",
    "compare",
    "downstream",
    "evaluate",
    "isolation",
    "measure",
    "over_seeds",
    "perturb",
    "probe",
    "remove_spurious",
    "shared",
    "spelling",
    "table",
    "variants",
]
