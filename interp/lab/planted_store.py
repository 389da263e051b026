"""Planted rows as an activation store, so that every tool of the project works on them.

Rows stand in runs for documents, as in an import; whole runs are held out. Row number r is the
same whatever the store's size and however often its writing was interrupted. The true codes are not
stored: `planted_codes` draws them again.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from interp.config import from_dict, to_dict
from interp.errors import ConfigError, DataError, StoreError
from interp.evaluate.truth import Rows
from interp.lab.planted import Planted, PlantedConfig
from interp.lab.recovery import SITE
from interp.progress import Progress, silent
from interp.provenance import Provenance
from interp.store import ActivationStore, Manifest, Site, StoredDocument, StoreWriter, schema
from interp.store.writer import is_complete

RUN_ROWS = 1024
JOB = "plant"
"""Of the provenance of such a store."""


@dataclass(frozen=True, kw_only=True)
class PlantConfig:
    """How many rows are written."""

    rows: int = 100_000
    """Rows in all; the last run of 1,024 may be shorter."""
    heldout_every: int = 10
    """One run in so many is held out."""
    shard_rows: int = 65_536
    """Rows a file at most, a multiple of 1,024."""
    seed: int = 0
    """Governs the rows."""

    def __post_init__(self) -> None:
        """Check every setting."""
        if self.rows < 2 * RUN_ROWS:
            raise ConfigError(f"a planted store has at least {2 * RUN_ROWS} rows, got {self.rows}")
        if self.heldout_every < 2 or self.seed < 0:
            raise ConfigError("heldout_every must be at least 2 and seed at least 0")
        if self.shard_rows < RUN_ROWS or self.shard_rows % RUN_ROWS:
            raise ConfigError(f"shard_rows must be a multiple of {RUN_ROWS}, got {self.shard_rows}")


def plant(
    planted: Planted, out: str | Path, config: PlantConfig, *, progress: Progress = silent
) -> ActivationStore:
    """Write a sealed store of planted rows, or return the same one that is there.

    Args:
        planted: the world.
        out: the store's folder.
        config: how many rows.
        progress: told the rows done.

    Raises:
        StoreError: the folder holds another store.
        ResourceError: no space is left.
    """
    folder = Path(out).resolve()
    settings = {"world": to_dict(planted.config), **to_dict(config)}
    request = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    if (folder / schema.MANIFEST).exists():
        there = Manifest.read(folder)
        if there.request != request:
            raise StoreError(f"{folder} holds another store; choose another folder or delete it")
        if there.state == "sealed" and is_complete(folder, there):
            return ActivationStore.open(folder)
    starts = range(0, config.rows, RUN_ROWS)
    documents = [
        StoredDocument(
            title=f"rows {first} to {min(first + RUN_ROWS, config.rows) - 1}",
            domain="planted",
            language="",
            licence="",
            topic="",
            heldout=number % config.heldout_every == 1,
            first_row=first,
            rows=min(RUN_ROWS, config.rows - first),
        )
        for number, first in enumerate(starts)
    ]
    edges = [*range(0, config.rows, config.shard_rows), config.rows]
    manifest = Manifest(
        model="planted",
        model_digest="",
        corpus="planted",
        sites=(Site(SITE, SITE, planted.config.d_in, None),),
        dtypes={SITE: "float16"},
        context=RUN_ROWS,
        bos=None,
        rows=config.rows,
        shards=schema.planned(np.diff(edges).tolist()),
        request=request,
        plan=request,
        sinks={"rule": "none"},
        provenance=Provenance(job=JOB, seed=config.seed, config=settings).to_dict(),
    )
    with StoreWriter(folder, manifest, documents, None) as store:
        for index, (start, stop) in enumerate(zip(edges, edges[1:], strict=False)):
            if index in store.mine:
                numbers = np.arange(start, stop)
                runs = [
                    _run(planted, config, number)[0]
                    for number in range(start // RUN_ROWS, -(-stop // RUN_ROWS))
                ]
                store.write_shard(
                    index,
                    token=np.zeros(stop - start, np.uint32),
                    document=numbers // RUN_ROWS,
                    position=numbers % RUN_ROWS,
                    sink=np.zeros(stop - start, bool),
                    activations={SITE: np.concatenate(runs)[: stop - start]},
                )
            progress(stop, config.rows)
        store.seal()
    return ActivationStore.open(folder)


def planted_in(store: ActivationStore, progress: Progress = silent) -> tuple[Planted, PlantConfig]:
    """The world that a planted store's rows are of, and how they were written.

    Args:
        store: the store.
        progress: as for `Planted`.

    Raises:
        ConfigError: the manifest names settings that a world cannot have.
        DataError: the store was not planted.
    """
    record = store.manifest.provenance
    settings = dict(record.get("config", {}))
    if record.get("job") != JOB or "world" not in settings:
        raise DataError(f"the true features of {store.name} are not known: it was not planted")
    world = from_dict(PlantedConfig, settings.pop("world"))
    return Planted(world, progress), from_dict(PlantConfig, settings)


def heldout_rows(
    store: ActivationStore, planted: Planted, config: PlantConfig, *, most: int = 50_000
) -> Iterator[Rows]:
    """Held-out rows of a planted store, run by run, with their true codes.

    Args:
        store: the store.
        planted: the world it is of, as `planted_in` gives it.
        config: how it was written.
        most: rows to stop after.
    """
    runs = [n for n, document in enumerate(store.documents) if document.heldout]
    for run in runs[: -(-most // RUN_ROWS)]:
        rows, codes = _run(planted, config, run)
        count = store.documents[run].rows
        yield rows[:count], codes[:count]


def planted_codes(
    planted: Planted, config: PlantConfig, run: int
) -> Float32[np.ndarray, "row feature"]:
    """The true codes of one run (document) of a planted store."""
    return _run(planted, config, run)[1][: max(0, config.rows - run * RUN_ROWS)]


def _run(
    planted: Planted, config: PlantConfig, number: int
) -> tuple[Float32[np.ndarray, "row d_in"], Float32[np.ndarray, "row feature"]]:
    return planted.draw(RUN_ROWS, seed=config.seed, number=number)
