"""Writing a store: shard after shard, each published whole, sealed at the end.

1. The manifest names every planned shard before the first is written.
2. A shard is written as ``.partial``, flushed and moved into place; then its record
   ``shard-00000.json`` (rows, checksum) is published the same way. Only a shard whose record
   matches its bytes counts.
3. Sealing collects the records into the manifest, then removes them.

Killed at any instant, the folder holds a manifest and whole shards; the rest is written again.
Shards are independent of one another, and their bytes depend on the data only, so a continued
store equals an uninterrupted one.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from filelock import FileLock, Timeout

from interp.errors import DataError, FormatError, StoreError
from interp.files import read_json, resource_error, sha256, write_json, write_text
from interp.store import schema, shard
from interp.store.schema import Manifest, ShardEntry, StoredDocument, record
from interp.store.vocabulary import Vocabulary

LOCK_FILE = ".lock"


class StoreWriter:
    """The one writer of a store, as a context manager; others are refused while it is open."""

    def __init__(
        self,
        path: str | Path,
        manifest: Manifest,
        documents: Sequence[StoredDocument],
        vocabulary: Vocabulary | None,
    ) -> None:
        """Begin a store, or continue the same one.

        Args:
            path: the store's folder, created if need be.
            manifest: what the store will be; ``documents`` and ``vocabulary`` are filled in here.
            documents: the planned documents.
            vocabulary: the model's, if it reads text.

        Raises:
            StoreError: the folder holds another store, a sealed one, or has another writer.
            ResourceError: the folder cannot be written.
        """
        self.path = Path(path)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / LOCK_FILE, timeout=0)
            self._lock.acquire()
        except Timeout as error:
            raise StoreError(
                f"another capture is writing {self.path}; wait for it or choose another --out"
            ) from error
        except OSError as error:
            raise resource_error(error, self.path / schema.MANIFEST) from error
        try:
            self.manifest = self._begin(manifest, documents, vocabulary)
            self._entries = published(self.path, self.manifest)
        except BaseException:
            self._lock.release()
            raise

    def _begin(
        self, manifest: Manifest, documents: Sequence[StoredDocument], vocabulary: Vocabulary | None
    ) -> Manifest:
        for left in self.path.glob("*.partial"):
            left.unlink()
        there = None
        if (self.path / schema.MANIFEST).exists():
            there = Manifest.read(self.path)
            if there.state == "sealed" and is_complete(self.path, there):
                raise StoreError(f"{self.path} is sealed; choose another --out or delete it")
            if (there.request, there.plan) != (manifest.request, manifest.plan):
                raise StoreError(
                    f"{self.path} holds another capture, with other settings; choose another "
                    "--out or delete it"
                )
        else:
            begun = {LOCK_FILE, schema.DOCUMENTS, schema.VOCABULARY}
            if {file.name for file in self.path.iterdir()} - begun:
                raise StoreError(f"{self.path} holds files that are no store; choose another --out")
        lines = (json.dumps(vars(document), ensure_ascii=False) for document in documents)
        write_text(self.path / schema.DOCUMENTS, "".join(line + "\n" for line in lines))
        if vocabulary is not None:
            vocabulary.write(self.path / schema.VOCABULARY)
        if there is not None:
            return self._reopen(there) if there.state == "sealed" else there
        begun = dataclasses.replace(
            manifest,
            documents=sha256(self.path / schema.DOCUMENTS),
            vocabulary=sha256(self.path / schema.VOCABULARY) if vocabulary is not None else "",
        )
        begun.write(self.path)
        return begun

    def _reopen(self, sealed: Manifest) -> Manifest:
        """Undo the sealing of a store that has lost files; sealing again gives the same bytes."""
        for entry in sealed.shards:
            write_json(record(self.path / entry.file), vars(entry))
        sinks = {name: value for name, value in sealed.sinks.items() if name != "count"}
        begun = dataclasses.replace(
            sealed,
            state="writing",
            shards=schema.planned(entry.rows for entry in sealed.shards),
            sinks=sinks,
            overflow={},
        )
        begun.write(self.path)
        return begun

    @property
    def published(self) -> frozenset[int]:
        """Indexes of the shards already on disk and whole."""
        return frozenset(self._entries)

    def first_row(self, index: int) -> int:
        """Number of a shard's first row in the store."""
        return sum(entry.rows for entry in self.manifest.shards[:index])

    def write_shard(
        self,
        index: int,
        *,
        token: np.ndarray,
        document: np.ndarray,
        position: np.ndarray,
        sink: np.ndarray,
        activations: Mapping[str, np.ndarray],
        overflow: Mapping[str, int] | None = None,
    ) -> None:
        """Publish a shard, in any order.

        Values too large for the stored type are cut to its largest, and counted.

        Args:
            index: which of the planned shards.
            token: token ids, one a row.
            document: index of each row's document.
            position: position of each row in the model's window.
            sink: which rows are attention sinks.
            activations: per site ``[rows, width]`` in floating point, or already as stored.
            overflow: numbers of each site that the caller has cut already.

        Raises:
            DataError: shapes differ from the manifest, or values are NaN or infinite.
            ResourceError: no space is left.
        """
        entry = self.manifest.shards[index]
        columns = {"token": token, "document": document, "position": position, "sink": sink}
        for name, values in columns.items():
            if values.shape != (entry.rows,):
                raise DataError(f"column {name} has shape {values.shape}, not ({entry.rows},)")
        counts = {name: int(n) for name, n in (overflow or {}).items() if n}
        stored: dict[str, np.ndarray] = {}
        for site in self.manifest.sites:
            values = activations.get(site.name)
            if values is None or values.shape != (entry.rows, site.width):
                given = "nothing" if values is None else values.shape
                raise DataError(f"site {site.name} gave {given}, not ({entry.rows}, {site.width})")
            stored[site.name], cut = self._encode(site.name, values, self.first_row(index))
            if cut:
                counts[site.name] = counts.get(site.name, 0) + cut
        path = self.path / entry.file
        digest = shard.publish(path, columns, stored, self.manifest.dtypes)
        done = ShardEntry(
            file=entry.file,
            rows=entry.rows,
            sha256=digest,
            sinks=int(np.count_nonzero(sink)),
            overflow=dict(sorted(counts.items())),
        )
        write_json(record(path), vars(done))
        self._entries[index] = done

    def _encode(self, site: str, values: np.ndarray, first: int) -> tuple[np.ndarray, int]:
        dtype = self.manifest.dtypes[site]
        stored = schema.encode(values, dtype)
        if schema.all_finite(stored):
            return stored, 0
        original = schema.decode(values, dtype) if values.dtype == np.uint16 else values
        bad = ~np.isfinite(original).all(axis=1)
        if bad.any():
            raise DataError(not_finite(site, first + int(bad.argmax())))
        largest = schema.LARGEST[dtype]
        cut = np.clip(original, -largest, largest)
        # What merely rounds up to infinity is cut too.
        count = int(np.count_nonzero(~np.isfinite(schema.decode(stored, dtype))))
        return schema.encode(cut, dtype), count

    def decide(self, *, dtypes: Mapping[str, schema.DType], sinks: Mapping[str, object]) -> None:
        """Record what the first shard decided: stored types and the rule for attention sinks."""
        self._update(dtypes=dict(dtypes), sinks=dict(sinks))

    def seal(self) -> None:
        """Declare the store complete.

        Raises:
            StoreError: shards are missing.
        """
        missing = set(range(len(self.manifest.shards))) - self._entries.keys()
        if missing:
            of = len(self.manifest.shards)
            raise StoreError(f"{self.path} lacks {len(missing)} of {of} shards; not sealed")
        shards = tuple(self._entries[index] for index in sorted(self._entries))
        overflow: dict[str, int] = {}
        for entry in shards:
            for site, count in entry.overflow.items():
                overflow[site] = overflow.get(site, 0) + count
        sinks = {**self.manifest.sinks, "count": sum(entry.sinks for entry in shards)}
        self._update(state="sealed", shards=shards, overflow=overflow, sinks=sinks)
        tidy(self.path)

    def _update(self, **changes: object) -> None:
        self.manifest = dataclasses.replace(self.manifest, **changes)  # type: ignore[reportArgumentType]
        self.manifest.write(self.path)

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()


def is_complete(folder: Path, manifest: Manifest) -> bool:
    """Whether every file of a sealed store is there; their bytes are `verify`'s business."""
    files = [entry.file for entry in manifest.shards] + [schema.DOCUMENTS]
    if manifest.vocabulary:
        files.append(schema.VOCABULARY)
    return all((folder / file).is_file() for file in files)


def published(folder: Path, manifest: Manifest) -> dict[int, ShardEntry]:
    """The shards of an unfinished store whose bytes are what their records say."""
    found: dict[int, ShardEntry] = {}
    for index, planned in enumerate(manifest.shards):
        path = folder / planned.file
        if not record(path).is_file():
            continue
        try:
            entry = ShardEntry(**read_json(record(path)))
        except (FormatError, TypeError):
            continue
        same = (entry.file, entry.rows) == (planned.file, planned.rows)
        if same and path.is_file() and sha256(path) == entry.sha256:
            found[index] = entry
    return found


def tidy(folder: Path) -> None:
    """Remove the records of a sealed store; its manifest has them."""
    for left in folder.glob("shard-*.json"):
        left.unlink(missing_ok=True)


def not_finite(site: str, row: int) -> str:
    """The message about activations that are no numbers."""
    return (
        f"site {site} holds NaN or infinity, first in row {row}; check the model, or compute in "
        "float32 with --model-dtype float32"
    )
