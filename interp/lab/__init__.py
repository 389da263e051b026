"""Published results reproduced where the truth is known, one file each."""

from interp.lab.reproduce import reproduce, reproduced, with_seeds
from interp.lab.result import (
    Check,
    Effort,
    Expected,
    Experiment,
    Figure,
    Measurement,
    Result,
    experiments,
    find_experiment,
)

__all__ = [
    "Check",
    "Effort",
    "Expected",
    "Experiment",
    "Figure",
    "Measurement",
    "Result",
    "experiments",
    "find_experiment",
    "reproduce",
    "reproduced",
    "with_seeds",
]
