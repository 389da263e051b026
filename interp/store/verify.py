"""Checking a store byte by byte against its manifest."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from interp.errors import InterpError, StoreError
from interp.files import sha256
from interp.progress import Progress, silent
from interp.provenance import Provenance
from interp.store import encoding, schema, shard
from interp.store.activations import ActivationStore
from interp.store.schema import STORED, Manifest, ShardEntry


def verify(path: str | Path, progress: Progress = silent) -> list[str]:
    """Everything that is wrong with a store, one sentence each; empty if it is whole.

    Checks every file against its checksum, every dataset's shape and type, that every activation
    is finite, the document table against the rows, and the provenance. Progress is in rows.

    Raises:
        StoreError: there is no store.
        FormatError: its manifest cannot be read.
    """
    folder = Path(path).resolve()
    if not (folder / schema.MANIFEST).is_file():
        raise StoreError(f"{folder} is no activation store; `interp capture` makes one")
    manifest = Manifest.read(folder)
    if manifest.state != "sealed":
        return [_message(ActivationStore.open, folder)]
    problems: list[str] = []
    done = 0
    for entry in manifest.shards:
        problems += _shard(folder, manifest, entry, first=done)
        done += entry.rows
        progress(done, manifest.rows, entry.file)
    tables = {schema.DOCUMENTS: manifest.documents}
    if manifest.vocabulary:
        tables[schema.VOCABULARY] = manifest.vocabulary
    for name, expected in tables.items():
        if not (folder / name).is_file():
            problems.append(f"{name} is missing; {shard.AGAIN}")
        elif sha256(folder / name) != expected:
            problems.append(f"{name} differs from its checksum; {shard.REMEDY}")
    if not problems:
        problems += _documents(ActivationStore.open(folder))
    problems += [_message(Provenance.from_dict, manifest.provenance)]
    return [problem for problem in problems if problem]


def to_delete(folder: Path, problems: Sequence[str]) -> list[Path]:
    """The damaged files that problems name, which must go before they can be captured again."""
    manifest = Manifest.read(folder)
    names = [*(entry.file for entry in manifest.shards), schema.DOCUMENTS, schema.VOCABULARY]
    told = [problem for problem in problems if problem.endswith(shard.REMEDY)]
    return [folder / name for name in names if any(name in problem for problem in told)]


def _message(check: object, argument: object) -> str:
    try:
        check(argument)  # type: ignore[reportCallIssue, operator]
    except InterpError as error:
        return str(error)
    return ""


def _shard(folder: Path, manifest: Manifest, entry: ShardEntry, *, first: int) -> list[str]:
    path = folder / entry.file
    if not path.is_file():
        return [f"{entry.file} is missing; {shard.AGAIN}"]
    if sha256(path) != entry.sha256:
        return [f"{entry.file} differs from its checksum; {shard.REMEDY}"]
    wanted: dict[str, tuple[tuple[int, ...], np.dtype]] = {
        name: ((entry.rows,), dtype) for name, dtype in schema.COLUMNS.items()
    }
    for site in manifest.sites:
        shape = (entry.rows, site.width)
        wanted[shard.activation_key(site.name)] = (shape, STORED[manifest.dtypes[site.name]])
    try:
        extents = shard.locate(path, wanted)[len(schema.COLUMNS) :]
        for site, extent in zip(manifest.sites, extents, strict=True):
            row = _first_bad(extent, entry.rows, site.width, manifest.dtypes[site.name])
            if row is not None:
                return [f"site {site.name} holds NaN or infinity, first in row {first + row}"]
    except InterpError as error:
        return [str(error)]
    return []


def _first_bad(extent: shard.Extent, rows: int, width: int, dtype: schema.DType) -> int | None:
    for start in range(0, rows, schema.CHUNK_ROWS):
        block = np.empty((min(schema.CHUNK_ROWS, rows - start), width), STORED[dtype])
        extent.read_into(block, start)
        if not encoding.all_finite(block):
            return start + int((~np.isfinite(encoding.decode(block, dtype))).any(axis=1).argmax())
    return None


def _documents(store: ActivationStore) -> list[str]:
    try:
        firsts = np.array([document.first_row for document in store.documents], dtype=np.int64)
        rows = np.array([document.rows for document in store.documents], dtype=np.int64)
        index = store.document_index
    except InterpError as error:
        return [str(error)]
    if (rows < 0).any() or not np.array_equal(firsts, np.cumsum(rows) - rows):
        return ["documents.jsonl has rows that overlap or leave gaps; capture the store again"]
    if not np.array_equal(np.repeat(np.arange(len(rows)), rows), index):
        return ["documents.jsonl does not match the rows' documents; capture the store again"]
    return []
