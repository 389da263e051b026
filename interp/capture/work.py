"""The shards of this process: computed, marked, published; sealed by rank 0.

The first shard of the store decides the stored types and the sink threshold of all. Rank 0 has it;
the others compute their first shard meanwhile and compute it again if rank 0 decides otherwise.
"""

import time
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from interp.capture.plan import Plan
from interp.capture.shards import SINK_RATIO, ShardRows, ShardRunner, find_witness
from interp.errors import FormatError
from interp.models import LoadedModel
from interp.progress import Progress
from interp.store import Site, StoreMember, StoreWriter
from interp.store.schema import DType


class _Told:
    """Makes progress of the rows computed here and those that other ranks have published."""

    def __init__(self, store: StoreWriter | StoreMember, progress: Progress) -> None:
        self._store, self._progress = store, progress
        self._before, self._mine = store.published, frozenset(store.mine)
        self._started, self._own = time.monotonic(), 0
        if self._before:
            progress(self._rows(self._before), store.manifest.rows, "already captured")

    def __call__(self, rows: int) -> None:
        """Count rows computed here; negative if they are to be computed again."""
        self._own += rows
        self.show()

    def show(self) -> None:
        """Report."""
        fresh = self._own + self._rows(self._store.published - self._before - self._mine)
        rate = fresh / max(time.monotonic() - self._started, 1e-9)
        done = self._rows(self._before) + fresh
        self._progress(done, self._store.manifest.rows, f"{rate:,.0f} tokens/s")

    def _rows(self, indexes: frozenset[int]) -> int:
        return sum(self._store.manifest.shards[index].rows for index in indexes)


def work(
    model: LoadedModel,
    sites: Sequence[Site],
    plan: Plan,
    store: StoreWriter | StoreMember,
    batch_tokens: int,
    timeout: float,
    progress: Progress,
) -> None:
    """Write this process' shards; return when the whole store is sealed.

    Raises:
        DataError: activations are NaN or infinite.
        ResourceError: no space is left, or not even one window fits into memory.
        StoreError: another rank has ended or was silent for ``timeout`` seconds.
    """
    bos = store.manifest.bos
    witness = find_witness(sites, model.sites())
    runner = ShardRunner(model, sites, witness, plan, bos=bos, batch_tokens=batch_tokens)
    told = _Told(store, progress)
    rooms: tuple[dict[str, np.ndarray], ...] = ({}, {})  # one is published, the other filled
    for index, room in zip(store.mine, cycle(rooms), strict=False):
        dtypes = store.manifest.dtypes
        found = runner.run(index, dtypes, told, room)
        if not store.manifest.sinks:
            # The decision is recorded before the shard is.
            store.decide(dtypes=wide_enough(found, dtypes), sinks=sink_rule(found, witness, bos))
            if store.manifest.dtypes != dtypes:
                told(-store.manifest.shards[index].rows)
                found = runner.run(index, store.manifest.dtypes, told, room)
        start, stop = int(plan.edges[index]), int(plan.edges[index + 1])
        positions = plan.positions(start, stop)
        store.write_shard(
            index,
            token=plan.tokens[start:stop],
            document=plan.document_of(start, stop),
            position=positions,
            sink=mark_sinks(found, positions, store.manifest.sinks),
            activations=found.activations,
            overflow=found.overflow,
        )
        store.collect()
    store.finish(timeout, told.show)


def wide_enough(found: ShardRows, dtypes: Mapping[str, DType]) -> dict[str, DType]:
    """The stored types, bfloat16 for sites that did not fit float16 in the first shard."""
    wider: dict[str, DType] = {
        site: "bfloat16" for site in found.overflow if dtypes[site] == "float16"
    }
    return {**dtypes, **wider}


def sink_rule(found: ShardRows, witness: Site | None, bos: int | None) -> dict[str, Any]:
    """How attention sinks are marked, measured on the first shard."""
    rule: dict[str, Any] = {"first_position": bos is None}
    parts = ["the first position of every window"] if bos is None else []
    if found.norms is not None and witness is not None:
        median = float(np.median(found.norms))
        parts.append(f"norm at {witness.name} above {SINK_RATIO:g} times the first shard's median")
        rule |= {"site": witness.name, "median": median, "threshold": SINK_RATIO * median}
    return {"rule": " or ".join(parts) or "none", **rule}


def mark_sinks(found: ShardRows, positions: np.ndarray, rule: dict[str, Any]) -> np.ndarray:
    """The rows the rule calls attention sinks."""
    sinks = np.zeros(len(positions), dtype=bool)
    if rule.get("first_position"):
        sinks |= positions == 0
    if found.norms is not None:
        if "threshold" not in rule:
            raise FormatError("the store's manifest lacks its sink threshold; capture it again")
        sinks |= found.norms > rule["threshold"]
    return sinks
