"""Activations that another program computed, as a store. No torch.

1. The rows ``[rows, width]`` of a ``.npy`` or ``.safetensors`` file are mapped, not loaded; a
   shard at a time is converted chunk by chunk and published, so memory does not grow with rows.
2. Nothing says which text the rows are of, so runs of consecutive rows stand for documents;
   whole runs, chosen by the seed, are held out.
3. As with a capture, an import that was interrupted is completed to the same bytes.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from interp.config import to_dict
from interp.errors import ConfigError, DataError, StoreError
from interp.files import sha256
from interp.progress import Progress, silent
from interp.provenance import Provenance
from interp.store import encoding, schema
from interp.store.activations import ActivationStore
from interp.store.schema import CHUNK_ROWS, DType, Manifest, StoredDocument
from interp.store.site import Site
from interp.store.writer import StoreWriter, is_complete

SHARD_BYTES = 1 << 28
"""Shards of wide sites have fewer rows, so that one fits into memory beside its source."""


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """How activations are imported."""

    heldout: float = 0.1
    """Share of the runs that is kept from training."""
    run_rows: int = 4096
    """Consecutive rows that are held out, or not, together; fewer if they make under ten runs."""
    seed: int = 0
    """Governs which runs are held out."""
    shard_rows: int = 65_536
    """Rows a file at most; a killed import loses the one being read and the one being written."""
    dtype: DType = "float16"
    """Stored type; rows that do not fit float16 go over to bfloat16 by themselves."""

    def __post_init__(self) -> None:
        for name in ("run_rows", "shard_rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.heldout < 1:
            raise ConfigError(f"heldout must be at least 0 and below 1, got {self.heldout}")
        if self.seed < 0:
            raise ConfigError(f"seed must be at least 0, got {self.seed}")
        if self.dtype not in schema.STORED:
            raise ConfigError(f"dtype must be float16, bfloat16 or float32, got {self.dtype!r}")


@dataclass(frozen=True)
class Table:
    """An array of a file, not yet read; uint16 with ``bfloat16`` set holds bfloat16's bits."""

    path: Path
    values: Shaped[np.ndarray, "..."]
    bfloat16: bool = False
    key: str = ""
    """Its name, in a file of several arrays."""

    def rows(self, start: int, stop: int) -> Shaped[np.ndarray, "n ..."]:
        """Some rows as numbers numpy can compute with."""
        part = np.ascontiguousarray(self.values[start:stop])
        return encoding.decode(part, "bfloat16") if self.bfloat16 else part


def import_activations(
    table: Table,
    *,
    model: str,
    site: str,
    out: str | Path,
    tokens: Table | None = None,
    config: ImportConfig | None = None,
    progress: Progress = silent,
) -> ActivationStore:
    """Make a sealed store of activations that are there already.

    Args:
        table: the activations ``[rows, width]``; `interp.capture.tables.open_table` opens a file.
        model: name of the model they are of.
        site: short name of their site, such as ``resid_post.9``.
        out: the store's folder.
        tokens: token id of each row, if known.
        config: the settings.
        progress: told the rows done and the rows in all.

    Raises:
        ConfigError: the site's name cannot be one.
        DataError: the arrays have other shapes or types, or hold NaN or infinity.
        StoreError: the folder holds another store.
        ResourceError: no space is left.
    """
    config = config or ImportConfig()
    _check(table, tokens)
    if not site or "/" in site or len(site) > 100:
        raise ConfigError(f"{site!r} cannot name a site; give one such as resid_post.9")
    rows, width = table.values.shape
    folder = Path(out).resolve()
    parents = {table.path.name: sha256(table.path)}
    if tokens is not None:
        parents[tokens.path.name] = sha256(tokens.path)
    asked: dict[str, Any] = {
        "model": model,
        "site": site,
        "source": str(table.path),
        "key": table.key,
        "token_ids": "" if tokens is None else str(tokens.path),
        **to_dict(config),
    }
    # What the source is called does not matter, what it holds does.
    same = {**asked, "source": "", "token_ids": "", "parents": list(parents.values())}
    request = hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()
    done = _finished(folder, request)
    if done is not None:
        progress(rows, rows, "already imported")
        return done
    span = max(1, min(config.run_rows, rows // 10))
    documents = _runs(rows, span, config)
    size = width * schema.STORED[config.dtype].itemsize
    shard_rows = min(config.shard_rows, max(CHUNK_ROWS, SHARD_BYTES // size))
    edges = [*range(0, rows, shard_rows), rows]
    layer = site.rpartition(".")[2]
    manifest = Manifest(
        model=model,
        model_digest="",
        corpus=table.path.name,
        sites=(Site(site, site, width, int(layer) if layer.isdecimal() else None),),
        dtypes={site: config.dtype},
        context=span,
        bos=None,
        rows=rows,
        shards=schema.planned(np.diff(edges).tolist()),
        request=request,
        plan=hashlib.sha256(json.dumps([edges, [vars(d) for d in documents]]).encode()).hexdigest(),
        provenance=Provenance(
            job="import", seed=config.seed, config=asked, parents=parents
        ).to_dict(),
    )
    with StoreWriter(folder, manifest, documents, None) as store:
        for index, (start, stop) in enumerate(zip(edges, edges[1:], strict=False)):
            if index in store.mine:
                _shard(store, index, table, tokens, start, stop)
            progress(stop, rows)
        store.seal()
    return ActivationStore.open(folder)


def _shard(
    store: StoreWriter,
    index: int,
    table: Table,
    tokens: Table | None,
    start: int,
    stop: int,
) -> None:
    (site,) = store.manifest.sites
    stored, cut = _converted(table, start, stop, store.manifest.dtypes[site.name])
    if not store.manifest.sinks:  # the first shard decides for all, as in a capture
        dtype: DType = store.manifest.dtypes[site.name]
        if cut and dtype == "float16":
            dtype = "bfloat16"
            stored, cut = _converted(table, start, stop, dtype)
        store.decide(dtypes={site.name: dtype}, sinks={"rule": "none"})
    index_of, span = np.arange(start, stop), store.manifest.context
    store.write_shard(
        index,
        token=np.zeros(stop - start) if tokens is None else tokens.rows(start, stop),
        document=index_of // span,
        position=index_of % span,
        sink=np.zeros(stop - start, bool),
        activations={site.name: stored},
        overflow={site.name: cut},
    )


def _converted(table: Table, start: int, stop: int, dtype: DType) -> tuple[np.ndarray, int]:
    """Rows in their stored type, and how many numbers were too large for it and cut."""
    out = np.empty((stop - start, table.values.shape[1]), schema.STORED[dtype])
    cut = 0
    for low in range(start, stop, CHUNK_ROWS):
        values = table.rows(low, min(low + CHUNK_ROWS, stop))
        finite = np.isfinite(values)
        if not finite.all():
            row = low + int((~finite).any(axis=1).argmax())
            raise DataError(
                f"{table.path} holds NaN or infinity, first in row {row}; leave such rows out"
            )
        with np.errstate(over="ignore"):
            stored = encoding.encode(values.astype(np.float32, copy=False), dtype)
        if not encoding.all_finite(stored):
            cut += int(np.count_nonzero(~np.isfinite(encoding.decode(stored, dtype))))
            largest = encoding.LARGEST[dtype]
            stored = encoding.encode(np.clip(values, -largest, largest).astype(np.float32), dtype)
        out[low - start : low - start + len(values)] = stored
    return out, cut


def _check(table: Table, tokens: Table | None) -> None:
    values = table.values
    if values.ndim != 2 or 0 in values.shape:
        raise DataError(
            f"{table.path} holds an array of shape {values.shape}; activations are [rows, width]"
        )
    if not table.bfloat16 and values.dtype.kind != "f":
        raise DataError(f"{table.path} holds {values.dtype}; activations are floating-point")
    if tokens is None:
        return
    if tokens.values.shape != values.shape[:1] or tokens.values.dtype.kind not in "iu":
        raise DataError(
            f"{tokens.path} holds {tokens.values.dtype} of shape {tokens.values.shape}; token ids "
            f"are whole numbers of shape ({len(values)},), one a row of {table.path.name}"
        )
    if tokens.bfloat16 or tokens.values.min() < 0 or tokens.values.max() > np.iinfo("u4").max:
        raise DataError(f"{tokens.path} holds numbers that are no token ids; they are at least 0")


def _runs(rows: int, span: int, config: ImportConfig) -> list[StoredDocument]:
    firsts = range(0, rows, span)
    return [
        StoredDocument(
            title=f"rows {first} to {min(first + span, rows) - 1}",
            domain="imported",
            language="",
            licence="",
            topic="",
            heldout=bool(held),
            first_row=first,
            rows=min(span, rows - first),
        )
        for first, held in zip(firsts, _heldout(len(firsts), config), strict=True)
    ]


def _heldout(runs: int, config: ImportConfig) -> Bool[np.ndarray, " runs"]:
    held = np.zeros(runs, bool)
    # At least one if any are wanted, and never all.
    count = min(max(round(config.heldout * runs), config.heldout > 0), runs - 1)
    held[np.random.default_rng(config.seed).permutation(runs)[:count]] = True
    return held


def _finished(folder: Path, request: str) -> ActivationStore | None:
    if not (folder / schema.MANIFEST).exists():
        return None
    manifest = Manifest.read(folder)
    if manifest.request != request:
        raise StoreError(f"{folder} holds another store; choose another --out or delete it")
    whole = manifest.state == "sealed" and is_complete(folder, manifest)
    return ActivationStore.open(folder) if whole else None
