"""Publishing shards of a store that has been begun: what every process that writes it can do.

A disk takes as long to promise a shard as a model to compute it, so the last shard is published by
a thread while the next is computed; one at most is on its way.
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from interp.errors import DataError, FormatError
from interp.files import read_json, sha256, write_json
from interp.store import encoding, shard
from interp.store.schema import Manifest, ShardEntry, record


class ShardPublisher:
    """Writes shards whole, in any order; values too large for their type are cut and counted."""

    def __init__(self, path: Path, manifest: Manifest, entries: Mapping[int, ShardEntry]) -> None:
        """Write into a begun store.

        Args:
            path: the store's folder.
            manifest: the store's.
            entries: the shards already on disk and whole.
        """
        self.path, self.manifest, self._entries = path, manifest, dict(entries)
        self.mine: tuple[int, ...] = ()
        """The missing shards that this process is to write."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="interp-publish")
        self._underway: Future[None] | None = None

    def collect(self) -> frozenset[int]:
        """Take notice of the shards that other processes have published; gives all there are."""
        for index, planned in enumerate(self.manifest.shards):
            if index not in self._entries:
                entry = recorded(self.path, planned)
                if entry is not None:
                    self._entries[index] = entry
        return self.published

    @property
    def published(self) -> frozenset[int]:
        """Indexes of the shards known to be on disk and whole."""
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
        """Publish a shard, perhaps only by the next call or `flush`; its arrays must not change.

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
            ResourceError: no space is left, for this shard or the one before.
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
        self.flush()
        self._underway = self._thread.submit(self._publish, index, columns, stored, counts)

    def flush(self) -> None:
        """Wait until the last shard is on disk.

        Raises:
            ResourceError: no space is left for it.
        """
        underway, self._underway = self._underway, None
        if underway is not None:
            underway.result()

    def _publish(
        self,
        index: int,
        columns: Mapping[str, np.ndarray],
        stored: Mapping[str, np.ndarray],
        overflow: Mapping[str, int],
    ) -> None:
        entry = self.manifest.shards[index]
        path = self.path / entry.file
        digest = shard.publish(path, columns, stored, self.manifest.dtypes)
        done = ShardEntry(
            file=entry.file,
            rows=entry.rows,
            sha256=digest,
            sinks=int(np.count_nonzero(columns["sink"])),
            overflow=dict(sorted(overflow.items())),
        )
        write_json(record(path), vars(done))
        self._entries[index] = done

    def _end(self, failed: bool) -> None:
        """Let the last shard reach the disk; its failure counts unless something failed before."""
        try:
            self.flush()
        except BaseException:
            if not failed:
                raise
        finally:
            self._thread.shutdown()

    def _encode(self, site: str, values: np.ndarray, first: int) -> tuple[np.ndarray, int]:
        dtype = self.manifest.dtypes[site]
        stored = encoding.encode(values, dtype)
        if encoding.all_finite(stored):
            return stored, 0
        original = encoding.decode(values, dtype) if values.dtype == np.uint16 else values
        bad = ~np.isfinite(original).all(axis=1)
        if bad.any():
            raise DataError(not_finite(site, first + int(bad.argmax())))
        largest = encoding.LARGEST[dtype]
        cut = np.clip(original, -largest, largest)
        # What merely rounds up to infinity is cut too.
        count = int(np.count_nonzero(~np.isfinite(encoding.decode(stored, dtype))))
        return encoding.encode(cut, dtype), count


def recorded(folder: Path, planned: ShardEntry) -> ShardEntry | None:
    """What the record of a shard says, if there is one and it is of the planned shard."""
    path = folder / planned.file
    if not record(path).is_file():
        return None
    try:
        entry = ShardEntry(**read_json(record(path)))
    except (FormatError, TypeError):
        return None
    same = (entry.file, entry.rows) == (planned.file, planned.rows)
    return entry if same and path.is_file() else None


def published(folder: Path, manifest: Manifest) -> dict[int, ShardEntry]:
    """The shards of an unfinished store whose bytes are what their records say."""
    found: dict[int, ShardEntry] = {}
    for index, planned in enumerate(manifest.shards):
        entry = recorded(folder, planned)
        if entry is not None and sha256(folder / planned.file) == entry.sha256:
            found[index] = entry
    return found


def not_finite(site: str, row: int) -> str:
    """The message about activations that are no numbers."""
    return (
        f"site {site} holds NaN or infinity, first in row {row}; check the model, or compute in "
        "float32 with --model-dtype float32"
    )
