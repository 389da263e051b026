"""Writing a unit table whole and at once; its layout is described in `interp.features.table`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float, Int, Integer, UInt32

from interp.errors import DataError
from interp.features.meanings import Meanings
from interp.features.table import FORMAT, VERSION, UnitTable
from interp.files import replacing
from interp.provenance import Provenance
from interp.store.shard import LOCK

_H5: Any = h5py  # its type stubs lack half of what is used here


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a table is about."""

    model: str
    site: str
    basis: str
    kind: str
    signed: bool
    """Whether units 2i and 2i + 1 are the positive and negative side of neuron i."""
    n_units: int
    rows: int
    """Rows of the store that were read, which bounds the contexts' row numbers."""
    store: str
    store_digest: str
    corpus: str
    key: str
    """Hash of everything that decides the numbers; a table with the same key is up to date."""
    provenance: Provenance
    scores: Mapping[str, str]
    """The definition of each score, in words."""


@dataclass(frozen=True, kw_only=True)
class Contexts:
    """Chosen contexts of every unit."""

    strata: Sequence[str]
    before: int
    after: int
    rows: Int[np.ndarray, "units strata k"]
    values: Float[np.ndarray, "units strata k"]
    windows: Float[np.ndarray, "units strata k window"]


@dataclass(frozen=True, kw_only=True)
class Logits:
    """Tokens each unit's direction promotes and suppresses, strongest first."""

    promoted: Integer[np.ndarray, "units tokens"]
    promoted_value: Float[np.ndarray, "units tokens"]
    suppressed: Integer[np.ndarray, "units tokens"]
    suppressed_value: Float[np.ndarray, "units tokens"]


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Active tokens of each unit by activation."""

    counts: UInt32[np.ndarray, "units bins"]
    edges: Float[np.ndarray, " edges"]


@dataclass(frozen=True, kw_only=True)
class Domains:
    """Share of each unit's activation mass in each domain."""

    names: Sequence[str] = field(default_factory=list[str])
    share: Float[np.ndarray, "units domains"]


def write_table(
    path: str | Path,
    header: Header,
    columns: Mapping[str, np.ndarray],
    histogram: Histogram,
    contexts: Contexts,
    domains: Domains | None = None,
    logits: Logits | None = None,
    meanings: Meanings | None = None,
) -> UnitTable:
    """Write a table atomically and open it.

    Args:
        path: the ``.h5`` file.
        header: what the table is about.
        columns: ``[units]`` numbers or flags by name.
        histogram: active tokens by activation.
        contexts: chosen contexts.
        domains: activation mass by domain.
        logits: promoted and suppressed tokens, where the site writes to the residual stream.
        meanings: rules, tokens, languages, purity and senses.

    Raises:
        DataError: an array has not one entry a unit.
        ResourceError: no space is left, or the folder cannot be written.
    """
    width = contexts.before + 1 + contexts.after
    if contexts.windows.shape != (*contexts.rows.shape, width):
        raise DataError(f"windows have shape {contexts.windows.shape}, not {width} wide")
    arrays: dict[str, np.ndarray] = {f"columns/{name}": _plain(v) for name, v in columns.items()}
    arrays["histogram/counts"] = histogram.counts
    arrays["contexts/row"] = contexts.rows.astype(np.int64)
    arrays["contexts/value"] = contexts.values.astype(np.float32)
    arrays["contexts/window"] = _half(contexts.windows)
    if domains is not None:
        arrays["domains/share"] = domains.share.astype(np.float32)
    if logits is not None:
        arrays["logits/promoted"] = logits.promoted.astype(np.int32)
        arrays["logits/promoted_value"] = _half(logits.promoted_value)
        arrays["logits/suppressed"] = logits.suppressed.astype(np.int32)
        arrays["logits/suppressed_value"] = _half(logits.suppressed_value)
    if meanings is not None:
        arrays |= meanings.arrays()
    for name, values in arrays.items():
        if len(values) != header.n_units:
            raise DataError(f"{name} has {len(values)} entries for {header.n_units} units")
    file_path = Path(path)
    with (
        replacing(file_path) as partial,
        LOCK,
        _H5.File(partial, "w", libver="v110", track_order=False) as file,
    ):
        for name, values in arrays.items():
            file.create_dataset(name, data=np.ascontiguousarray(values))
        file.create_dataset("histogram/edges", data=histogram.edges.astype(np.float32))
        file["contexts"].attrs["strata"] = json.dumps(list(contexts.strata))
        file["contexts"].attrs["before"] = contexts.before
        file["contexts"].attrs["after"] = contexts.after
        if domains is not None:
            file["domains"].attrs["names"] = json.dumps(list(domains.names))
        if meanings is not None:
            meanings.annotate(file)
        _write_header(file, header)
    return UnitTable.open(path)


def _write_header(file: Any, header: Header) -> None:
    file.attrs["format"], file.attrs["version"] = FORMAT, VERSION
    for name in ("model", "site", "basis", "kind", "store", "store_digest", "corpus", "key"):
        file.attrs[name] = getattr(header, name)
    file.attrs["signed"] = header.signed
    file.attrs["n_units"], file.attrs["rows"] = header.n_units, header.rows
    file.attrs["provenance"] = header.provenance.to_json()
    file.attrs["scores"] = json.dumps(dict(header.scores), ensure_ascii=False)


def _plain(values: np.ndarray) -> np.ndarray:
    """Flags as 0/1 bytes (HDF5 has no boolean), floats as float32, integers as they are."""
    if values.dtype == bool:
        return values.astype(np.uint8)
    return values.astype(np.float32) if values.dtype.kind == "f" else values


def _half(values: np.ndarray) -> np.ndarray:
    limit = float(np.finfo(np.float16).max)
    return np.clip(values, -limit, limit).astype(np.float16)
