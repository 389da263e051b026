"""Units as files: the filtered, sorted table as CSV or JSON."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from apps.listing import Listing
from apps.notes import Note
from interp.features.table import UnitTable


def frame(
    listing: Listing, rows: np.ndarray, names: Sequence[str], notes: Mapping[str, Note]
) -> pd.DataFrame:
    """The given rows in their order: address, the named columns, rule, and the reader's notes."""
    addresses = [listing.address(int(row)) for row in rows]
    values: dict[str, Any] = {"address": addresses}
    for name in names:
        # A table's figures are float32: written as such, 0.1 stays 0.1. Counts stay whole.
        column = listing.column(name)[rows]
        whole = bool(np.all(np.isfinite(column)) and np.all(column == np.round(column)))
        values[name] = column.astype(np.int64 if whole else np.float32)
    if any(listing.rules):
        values["rule"] = [listing.rules[row] for row in rows]
    if notes:
        found = [notes.get(address) for address in addresses]
        values["label"] = [note.label if note else "" for note in found]
        values["rating"] = pd.array([note.rating if note else None for note in found], "Int64")
        values["comment"] = [note.comment if note else "" for note in found]
    return pd.DataFrame(values)


def csv(found: pd.DataFrame) -> bytes:
    """Comma-separated values, UTF-8; what is not known is empty."""
    return found.to_csv(index=False).encode()


def as_json(found: pd.DataFrame, tables: Sequence[UnitTable]) -> bytes:
    """One JSON object: where the figures come from, what they mean, and the units."""
    names = list(found.columns)
    columns = [[_plain(value) for value in found[name].tolist()] for name in names]
    for at, name in enumerate(names):
        if found[name].dtype == np.float32:
            columns[at] = [
                float(str(value)) if np.isfinite(value) else None for value in found[name].array
            ]
    content = {
        "scores": {
            name: words
            for table in tables
            for name, words in table.scores.items()
            if name in found.columns
        },
        "provenance": {table.basis: table.provenance for table in tables},
        "units": [dict(zip(names, line, strict=True)) for line in zip(*columns, strict=True)],
    }
    return json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False).encode()


def _plain(value: object) -> object:
    return None if value is pd.NA or value != value else value
