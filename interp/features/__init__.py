"""Units of every kind on one scale: neurons, dictionary latents and random controls.

`extract` measures the units of several bases in one pass over a store and writes one table a
basis; `open_units` reads them. Names load on first use (PEP 562), so that browsing tables
(`UnitTable`, `Address`) needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.features.activations import UnitActivations
    from interp.features.address import Address
    from interp.features.bases import (
        Basis,
        DictionaryBasis,
        NeuronBasis,
        RandomDirections,
        neurons,
        random_directions,
    )
    from interp.features.config import ExtractConfig
    from interp.features.extract import extract
    from interp.features.find import find_bases
    from interp.features.fit import FitConfig, fit_basis
    from interp.features.fitted import FittedBasis
    from interp.features.fitted_files import load_basis, save_basis
    from interp.features.places import Place, places
    from interp.features.table import Stratum, UnitTable
    from interp.features.units import Units, open_units

_HOME = {
    "Address": "address",
    "Basis": "bases",
    "DictionaryBasis": "bases",
    "ExtractConfig": "config",
    "FitConfig": "fit",
    "FittedBasis": "fitted",
    "NeuronBasis": "bases",
    "RandomDirections": "bases",
    "Place": "places",
    "Stratum": "table",
    "UnitActivations": "activations",
    "UnitTable": "table",
    "Units": "units",
    "extract": "extract",
    "find_bases": "find",
    "fit_basis": "fit",
    "load_basis": "fitted_files",
    "neurons": "bases",
    "open_units": "units",
    "places": "places",
    "random_directions": "bases",
    "save_basis": "fitted_files",
}

__all__ = [
    "Address",
    "Basis",
    "DictionaryBasis",
    "ExtractConfig",
    "FitConfig",
    "FittedBasis",
    "NeuronBasis",
    "Place",
    "RandomDirections",
    "Stratum",
    "UnitActivations",
    "UnitTable",
    "Units",
    "extract",
    "find_bases",
    "fit_basis",
    "load_basis",
    "neurons",
    "open_units",
    "places",
    "random_directions",
    "save_basis",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'interp.features' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"interp.features.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
