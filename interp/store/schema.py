"""What a store's files hold: names, types, and the manifest.

The public description, for readers who use plain h5py, is `activations/README.md`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from interp.errors import FormatError
from interp.files import read_json, write_json
from interp.store.site import Site

FORMAT = "interp-activation-store"
VERSION = 1
CHUNK_ROWS = 8192
MANIFEST, DOCUMENTS, VOCABULARY = "manifest.json", "documents.jsonl", "vocabulary.json"

COLUMNS: Mapping[str, np.dtype[Any]] = {
    "token": np.dtype("uint32"),
    "document": np.dtype("int32"),
    "position": np.dtype("int32"),
    "sink": np.dtype("uint8"),
}
"""The datasets every shard has besides the activations, one entry a row."""

DType = Literal["float16", "bfloat16", "float32"]
STORED: Mapping[str, np.dtype[Any]] = {
    "float16": np.dtype("float16"),
    "bfloat16": np.dtype("uint16"),  # numpy has no bfloat16: its bits as they are
    "float32": np.dtype("float32"),
}


@dataclass(frozen=True, kw_only=True)
class StoredDocument:
    """One document of a store and the rows it owns."""

    title: str
    domain: str
    language: str
    licence: str
    topic: str
    heldout: bool
    """Whether its rows are kept from training."""
    first_row: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One shard, planned or published."""

    file: str
    rows: int
    sha256: str = ""
    """Empty until the shard is published."""
    sinks: int = 0
    """Rows marked as attention sinks."""
    overflow: dict[str, int] = field(default_factory=dict[str, int])
    """Numbers cut to the largest the stored type can hold, for each site that had any."""


def shard_file(index: int) -> str:
    """File name of a shard."""
    return f"shard-{index:05d}.h5"


def record(path: Path) -> Path:
    """The file beside a shard that says it is whole, until the store is sealed."""
    return path.with_suffix(".json")


def planned(rows: Iterable[int]) -> tuple[ShardEntry, ...]:
    """The entries of shards to be written, from their rows."""
    return tuple(ShardEntry(file=shard_file(i), rows=int(n)) for i, n in enumerate(rows))


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of ``manifest.json``."""

    model: str
    model_digest: str
    corpus: str
    sites: tuple[Site, ...]
    dtypes: dict[str, DType]
    """Stored type of each site."""
    context: int
    """Length of the model's windows in tokens, with BOS where there is one."""
    bos: int | None
    """The BOS token that began every window and is not stored."""
    rows: int
    """Rows of the whole store, published or planned."""
    shards: tuple[ShardEntry, ...]
    """Every shard, planned from the beginning; checksums are filled in when the store is sealed."""
    documents: str = ""
    """SHA-256 of ``documents.jsonl``."""
    vocabulary: str = ""
    """SHA-256 of ``vocabulary.json``; empty if there is none."""
    request: str
    """SHA-256 of what was asked for: model, sites, corpus, settings."""
    plan: str
    """SHA-256 of which token stands in which row."""
    sinks: dict[str, Any] = field(default_factory=dict[str, Any])
    """Which rows were marked as attention sinks: rule, threshold, count. Empty: not yet known."""
    overflow: dict[str, int] = field(default_factory=dict[str, int])
    """Numbers cut to the largest the stored type can hold, for each site that had any."""
    provenance: dict[str, Any]
    state: Literal["writing", "sealed"] = "writing"

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` atomically."""
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        plain["sites"] = [asdict(site) for site in self.sites]
        plain["shards"] = [vars(shard) for shard in self.shards]  # asdict is slow for thousands
        write_json(folder / MANIFEST, {"format": FORMAT, "version": VERSION, **plain})

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Read ``manifest.json``.

        Raises:
            FormatError: it is missing, malformed, foreign or newer.
        """
        path = folder / MANIFEST
        value = read_json(path)
        if value.pop("format", None) != FORMAT:
            raise FormatError(f"{path} is no manifest of an activation store; name another folder")
        version = value.pop("version", None)
        if version != VERSION:
            raise FormatError(
                f"{path} has format version {version}, this interp reads {VERSION}; update interp "
                "or capture again"
            )
        try:
            value["sites"] = tuple(Site(**site) for site in value["sites"])
            value["shards"] = tuple(ShardEntry(**shard) for shard in value["shards"])
            manifest = cls(**value)
            manifest._check()
        except (KeyError, TypeError, AttributeError, ValueError, FormatError) as error:
            raise FormatError(f"{path} is malformed ({error}); capture again") from error
        return manifest

    def _check(self) -> None:
        if self.state not in ("writing", "sealed"):
            raise FormatError(f"state {self.state!r}")
        total = 0
        for index, shard in enumerate(self.shards):
            if shard.file != shard_file(index) or not _is_whole(shard.rows, 1 << 40):
                raise FormatError(f"shard {shard.file!r} of {shard.rows} rows")
            if self.state == "sealed" and len(shard.sha256) != 64:
                raise FormatError(f"shard {shard.file!r} has no checksum")
            total += shard.rows
        if total != self.rows or not isinstance(self.rows, int):
            raise FormatError(f"its shards add up to {total} rows, not {self.rows}")
        for site in self.sites:
            named = isinstance(site.name, str) and "/" not in site.name
            if not named or not _is_whole(site.width, 1 << 24):
                raise FormatError(f"site {site.name!r} of width {site.width}")
            if self.dtypes.get(site.name) not in STORED:
                raise FormatError(f"site {site.name!r} has type {self.dtypes.get(site.name)!r}")


def _is_whole(value: object, most: int) -> bool:
    return isinstance(value, int) and 1 <= value <= most
