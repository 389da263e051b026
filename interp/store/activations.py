"""Reading a store: whole columns, whole-chunk blocks, or a few rows. No torch, numpy only."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, UInt32

from interp.config import from_dict
from interp.errors import (
    DataError,
    FormatError,
    StoreCorrupt,
    StoreError,
    StoreIncomplete,
    UnknownName,
)
from interp.files import sha256
from interp.store import encoding, schema, shard
from interp.store.schema import CHUNK_ROWS, STORED, Manifest, StoredDocument, record
from interp.store.shard import Extent
from interp.store.site import JOINT, Site, joint
from interp.store.vocabulary import Vocabulary

Split = Literal["train", "heldout", "all"]


class ActivationStore:
    """A sealed store, read-only. Rows are numbered through all shards, in order of capture."""

    def __init__(self, path: Path, manifest: Manifest, digest: str) -> None:
        """Use `open`."""
        self.path, self.manifest, self.digest = path, manifest, digest
        self.name, self.model, self.rows = path.name, manifest.model, manifest.rows
        self.sites: dict[str, Site] = {site.name: site for site in manifest.sites}
        self._starts = np.cumsum([0, *(entry.rows for entry in manifest.shards)])
        self._located: dict[int, Mapping[str, Extent]] = {}

    @classmethod
    def open(cls, path: str | Path) -> "ActivationStore":
        """Open a store; reads its manifest only.

        Raises:
            StoreError: there is no store.
            StoreIncomplete: its capture has not finished.
            FormatError: its manifest is malformed, foreign or newer.
        """
        folder = Path(path).resolve()
        file = folder / schema.MANIFEST
        if not file.is_file():
            raise StoreError(f"{folder} is no activation store; `interp capture` makes one")
        manifest = Manifest.read(folder)
        if manifest.state != "sealed":
            published = [record(folder / entry.file).is_file() for entry in manifest.shards]
            done = sum(e.rows for e, there in zip(manifest.shards, published, strict=True) if there)
            raise StoreIncomplete(
                f"the capture in {folder} has {done:,} of {manifest.rows:,} rows; run the same "
                "`interp capture` again: it continues"
            )
        return cls(folder, manifest, hashlib.sha256(file.read_bytes()).hexdigest())

    def __repr__(self) -> str:
        sites = ", ".join(f"{site.name} [{site.width}]" for site in self.sites.values())
        return f"ActivationStore({self.name}: {self.rows:,} rows of {self.model}; {sites})"

    def site(self, name: str) -> Site:
        """A site by its short or canonical name, or several joined by ``+``.

        Raises:
            UnknownName: the store has no such site.
            ConfigError: a joint site names one twice.
        """
        for site in self.sites.values():
            if name in (site.name, site.hook):
                return site
        if JOINT in name:
            return joint([self.site(part) for part in name.split(JOINT)])
        raise UnknownName(f"site of store {self.name}", name, self.sites, "Capture it first.")

    def parts(self, site: Site) -> list[Site]:
        """The sites that a joint site is made of; of any other, itself alone."""
        if site.name in self.sites:
            return [site]
        return [self.sites[name] for name in site.name.split(JOINT)]

    # -- what belongs to each row ---------------------------------------------------------------

    @cached_property
    def tokens(self) -> UInt32[np.ndarray, " rows"]:
        """Token id of each row."""
        return self._columns["token"]

    @cached_property
    def document_index(self) -> Int32[np.ndarray, " rows"]:
        """Index into `documents` of each row."""
        return self._columns["document"]

    @cached_property
    def positions(self) -> Int32[np.ndarray, " rows"]:
        """Position in the model's window of each row; BOS, never stored, is 0."""
        return self._columns["position"]

    @cached_property
    def sinks(self) -> Bool[np.ndarray, " rows"]:
        """Rows marked as attention sinks at capture."""
        return self._columns["sink"].astype(bool)

    @cached_property
    def heldout(self) -> Bool[np.ndarray, " rows"]:
        """Rows whose document is kept from training."""
        flags = np.array([document.heldout for document in self.documents], dtype=bool)
        index = self.document_index
        if len(index) and not (index.min() >= 0 and index.max() < len(flags)):
            raise StoreCorrupt(
                f"store {self.path} names documents it does not list; capture it again"
            )
        return flags[index]

    @cached_property
    def documents(self) -> list[StoredDocument]:
        """The documents, in order of their rows."""
        path = self.path / schema.DOCUMENTS
        if not path.is_file() or sha256(path) != self.manifest.documents:
            raise StoreCorrupt(f"{path} is missing or not what the manifest says; {shard.REMEDY}")
        lines = path.read_text(encoding="utf-8").split("\n")
        try:
            return [from_dict(StoredDocument, json.loads(line)) for line in lines if line]
        except (TypeError, ValueError) as error:
            raise StoreCorrupt(f"{path} is malformed ({error}); {shard.REMEDY}") from error

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The text of token ids.

        Raises:
            FormatError: the store has none (activations of a model without tokens).
            StoreCorrupt: the file is not what the manifest says.
        """
        path = self.path / schema.VOCABULARY
        if not self.manifest.vocabulary:
            raise FormatError(f"store {self.name} has no vocabulary: its model reads no text")
        if not path.is_file() or sha256(path) != self.manifest.vocabulary:
            raise StoreCorrupt(f"{path} is missing or not what the manifest says; {shard.REMEDY}")
        return Vocabulary.read(path)

    def rows_of(self, split: Split, *, sinks: bool = False) -> Int64[np.ndarray, " n"]:
        """Row numbers of a split, ascending; attention sinks only if asked for."""
        return np.flatnonzero(self.mask(split, sinks=sinks))

    def mask(self, split: Split, *, sinks: bool = False) -> Bool[np.ndarray, " rows"]:
        """Which rows belong to a split; attention sinks only if asked for."""
        if split == "all":
            chosen = np.ones(self.rows, dtype=bool)
        else:
            chosen = self.heldout.copy() if split == "heldout" else ~self.heldout
        return chosen if sinks else chosen & ~self.sinks

    # -- activations ----------------------------------------------------------------------------

    def read(self, site: str, start: int, stop: int) -> Float32[np.ndarray, "rows width"]:
        """Consecutive rows of a site; of a joint site, its parts side by side.

        Raises:
            UnknownName: no such site.
            DataError: the rows lie outside the store.
            StoreCorrupt: a shard is missing or damaged.
        """
        read = [
            encoding.decode(self.read_stored(part, start, stop), self.manifest.dtypes[part.name])
            for part in self.parts(self.site(site))
        ]
        return read[0] if len(read) == 1 else np.concatenate(read, axis=1)

    def read_stored(
        self, site: Site, start: int, stop: int, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Consecutive rows in the type they are stored in (bfloat16 as its bits).

        Args:
            site: a site of this store, no joint one.
            start: first row.
            stop: the row after the last.
            out: C-contiguous memory of that shape and type to read into, instead of new memory.

        Raises:
            DataError: the rows lie outside the store.
            StoreCorrupt: a shard is missing or damaged.
        """
        if not 0 <= start <= stop <= self.rows:
            raise DataError(f"rows {start} to {stop} are outside store {self.name} of {self.rows}")
        # Every extent is checked against the size of its file before the rows are allocated.
        parts = [
            (self._extents(index)[site.name], low, high)
            for index, low, high in self._parts(start, stop)
        ]
        dtype = schema.STORED[self.manifest.dtypes[site.name]]
        if out is None:
            out = np.empty((stop - start, site.width), dtype)
        filled = 0
        for extent, low, high in parts:
            extent.read_into(out[filled : filled + high - low], low)
            filled += high - low
        return out

    def blocks(
        self, site: str, *, split: Split = "all", sinks: bool = True, size: int = CHUNK_ROWS
    ) -> Iterator[tuple[Int64[np.ndarray, " n"], Float32[np.ndarray, "n width"]]]:
        """The rows of a split in order as (row numbers, activations); ``size`` rows a read."""
        chosen = self.mask(split, sinks=sinks)
        for start in range(0, self.rows, size):
            stop = min(start + size, self.rows)
            keep = chosen[start:stop]
            if not keep.any():
                continue
            values = self.read(site, start, stop)
            yield start + np.flatnonzero(keep), values if keep.all() else values[keep]

    def take(
        self, site: str, rows: Int64[np.ndarray, " n"] | Sequence[int]
    ) -> Float32[np.ndarray, "n width"]:
        """Single rows in any order, read chunk by chunk.

        Raises:
            UnknownName: no such site.
            DataError: a row lies outside the store.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        if len(wanted) and not (wanted.min() >= 0 and wanted.max() < self.rows):
            raise DataError(f"a row is outside store {self.name} of {self.rows} rows")
        out = np.empty((len(wanted), self.site(site).width), np.float32)
        order = np.argsort(wanted, kind="stable")
        chunks = wanted[order] // CHUNK_ROWS
        edges = np.flatnonzero(np.diff(chunks)) + 1
        for part in np.split(order, edges) if len(order) else []:
            low, high = int(wanted[part].min()), int(wanted[part].max()) + 1
            out[part] = self.read(site, low, high)[wanted[part] - low]
        return out

    # -- parts ----------------------------------------------------------------------------------

    def _parts(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """(shard, first row in it, last row + 1) of each shard that holds some of these rows."""
        index = max(int(np.searchsorted(self._starts, start, side="right")) - 1, 0)
        while start < stop:
            base, end = int(self._starts[index]), int(self._starts[index + 1])
            yield index, start - base, min(stop, end) - base
            start, index = end, index + 1

    def _extents(self, index: int) -> Mapping[str, Extent]:
        """Where a shard's columns and sites lie, by name; checked once for each state of a file."""
        entry, dtypes = self.manifest.shards[index], self.manifest.dtypes
        known = self._located.get(index)
        if known is None or shard.stamp(self.path / entry.file) != known["token"].stamp:
            wanted: dict[str, tuple[tuple[int, ...], np.dtype]] = {
                name: ((entry.rows,), dtype) for name, dtype in schema.COLUMNS.items()
            }
            for site in self.sites.values():
                shape = (entry.rows, site.width)
                wanted[shard.activation_key(site.name)] = (shape, STORED[dtypes[site.name]])
            found = shard.locate(self.path / entry.file, wanted)
            self._located[index] = dict(zip([*schema.COLUMNS, *self.sites], found, strict=True))
        return self._located[index]

    @cached_property
    def _columns(self) -> Mapping[str, np.ndarray]:
        extents = [self._extents(index) for index in range(len(self.manifest.shards))]
        columns = {name: np.empty(self.rows, dtype) for name, dtype in schema.COLUMNS.items()}
        for name, column in columns.items():
            for index, extent in enumerate(extents):
                part = column[int(self._starts[index]) : int(self._starts[index + 1])]
                extent[name].read_into(part, 0)
        return columns
