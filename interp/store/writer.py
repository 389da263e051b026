"""Writing a store: shard after shard, each published whole, sealed at the end.

1. The manifest names every planned shard before the first is written.
2. A shard is written as ``.partial``, flushed and moved into place; then its record
   ``shard-00000.json`` (rows, checksum) is published the same way. Only a shard whose record
   matches its bytes counts.
3. Sealing collects the records into the manifest, then removes them.

Killed at any instant, the folder holds a manifest and whole shards; the rest is written again.
Shards are independent of one another, and their bytes depend on the data only, so a continued
store equals an uninterrupted one, and several processes may write them (`crew`).
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from interp.errors import StoreError
from interp.files import resource_error, sha256, write_json, write_text
from interp.store import crew, schema
from interp.store.publisher import ShardPublisher, published
from interp.store.schema import Manifest, StoredDocument, record
from interp.store.vocabulary import Vocabulary

LOCK_FILE = ".lock"


class StoreWriter(ShardPublisher):
    """The one writer of a store, as a context manager; others are refused while it is open.

    Other processes may write shards beside it, each as a `StoreMember`.
    """

    def __init__(
        self,
        path: str | Path,
        manifest: Manifest,
        documents: Sequence[StoredDocument],
        vocabulary: Vocabulary | None,
        *,
        world: int = 1,
    ) -> None:
        """Begin a store, or continue the same one.

        Args:
            path: the store's folder, created if need be.
            manifest: what the store will be; ``documents`` and ``vocabulary`` are filled in here.
            documents: the planned documents.
            vocabulary: the model's, if it reads text.
            world: how many processes write it, this one included.

        Raises:
            StoreError: the folder holds another store, a sealed one, or has another writer.
            ResourceError: the folder cannot be written.
        """
        super().__init__(Path(path), manifest, {})
        self._crew: crew.Crew | None = None
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
            crew.refuse_living(self.path)
            self.manifest = self._begin(manifest, documents, vocabulary)
            self._entries = published(self.path, self.manifest)
            missing = self._missing()
            for index in missing:  # a record without its bytes must not count later
                record(self.path / self.manifest.shards[index].file).unlink(missing_ok=True)
            self.mine = missing[::world]
            crew.clear(self.path)
            if world > 1:
                self._crew = crew.Crew(self.path, world, missing)
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

    def decide(self, *, dtypes: Mapping[str, schema.DType], sinks: Mapping[str, object]) -> None:
        """Record what the first shard decided: stored types and the rule for attention sinks."""
        self._update(dtypes=dict(dtypes), sinks=dict(sinks))

    def _missing(self) -> tuple[int, ...]:
        indexes = range(len(self.manifest.shards))
        return tuple(index for index in indexes if index not in self._entries)

    def finish(self, timeout: float, report: Callable[[], None]) -> None:
        """Wait for the other ranks' shards, if there are any, and seal.

        Args:
            timeout: seconds without a new shard after which waiting ends.
            report: called when other ranks have published shards.

        Raises:
            StoreError: shards are missing and nobody is writing them.
        """
        self.flush()
        if self._crew is not None:
            self._crew.wait_for(self.collect, timeout, report)
        self.seal()

    def seal(self) -> None:
        """Declare the store complete.

        Raises:
            StoreError: shards are missing.
        """
        self.flush()
        missing = self._missing()
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
        try:
            self._end(failed=error is not None)
        finally:
            if self._crew is not None:
                self._crew.close()
            self._lock.release()


def is_complete(folder: Path, manifest: Manifest) -> bool:
    """Whether every file of a sealed store is there; their bytes are `verify`'s business."""
    files = [entry.file for entry in manifest.shards] + [schema.DOCUMENTS]
    if manifest.vocabulary:
        files.append(schema.VOCABULARY)
    return all((folder / file).is_file() for file in files)


def tidy(folder: Path) -> None:
    """Remove what only writing needs: the records, which the manifest has now, and the ranks."""
    crew.clear(folder)
    for left in folder.glob("shard-*.json"):
        left.unlink(missing_ok=True)
