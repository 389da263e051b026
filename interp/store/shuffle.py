"""A store as an endless stream of shuffled batches, restartable at any batch.

Reading single rows at random is hundreds of times slower than reading blocks, so:

1. The rows of the split lie in blocks of `BLOCK` consecutive rows; an epoch visits the blocks in
   an order drawn from (seed, epoch).
2. Consecutive blocks of that order fill a pool in memory, whose rows are permuted by an order drawn
   from (seed, epoch, pool).
3. The epochs' rows form one endless sequence; batch i is rows i·batch to (i+1)·batch of it. So
   nothing is dropped: a batch may end one epoch and begin the next, and every row comes exactly
   once an epoch.

The state is therefore the number of batches drawn; pools are made again from the seed, not saved.
Nothing of the order depends on the site, so a joint site's parts come from the same rows.
A thread reads the next pool while this one is used; two gather a large batch.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from interp.errors import ConfigError, DataError, FormatError, StoreCorrupt
from interp.store.activations import ActivationStore, Split
from interp.store.schema import STORED, DType
from interp.store.site import columns

BLOCK = 1024
"""Rows read at once."""
SHARED = 1024
"""Rows from which on two threads share a batch."""


@dataclass(frozen=True)
class _Pool:
    epoch: int
    index: int
    memory: list[np.ndarray]
    """For each part of the site."""
    order: NDArray[np.int64]
    """The rows of it that are in use, shuffled."""


class ShuffledBatches:
    """An iterator of float32 batches ``[batch, width]``; never ends."""

    def __init__(
        self,
        store: ActivationStore,
        site: str,
        *,
        batch: int,
        seed: int,
        split: Split = "train",
        sinks: bool = False,
        pool_rows: int = 131_072,
    ) -> None:
        """Start at the first batch.

        Args:
            store: where the rows are.
            site: which activations; a joint site gives its parts side by side.
            batch: rows a batch.
            seed: governs the order.
            split: which rows.
            sinks: whether attention sinks take part.
            pool_rows: rows mixed with one another in memory.

        Raises:
            ConfigError: batch or pool_rows is below 1, or the seed is negative.
            DataError: the split has no rows.
            UnknownName: no such site.
            StoreCorrupt: a shard is damaged; raised when its rows are read.
        """
        if batch < 1 or pool_rows < 1:
            raise ConfigError(f"batch and pool_rows must be at least 1, got {batch}, {pool_rows}")
        if seed < 0:
            raise ConfigError(f"the seed must be at least 0, got {seed}")
        self._store, self._site, self._seed = store, store.site(site), seed
        self._parts = store.parts(self._site)
        self._dtypes: list[DType] = [store.manifest.dtypes[part.name] for part in self._parts]
        self._columns = columns(part.width for part in self._parts)
        self._batch, self._drawn = batch, 0
        self._identity = {
            "store": store.digest,
            "site": self._site.name,
            "split": split,
            "sinks": sinks,
            "batch": batch,
            "seed": seed,
            "pool_rows": pool_rows,
        }
        mask = store.mask(split, sinks=sinks)
        edges = np.arange(0, store.rows, BLOCK)
        counts = np.add.reduceat(mask, edges, dtype=np.int64) if store.rows else np.empty(0, int)
        self._mask, self._blocks = mask, edges[counts > 0]
        self._counts = counts[counts > 0]
        self._per_pool = max(1, pool_rows // BLOCK)
        self.rows = int(mask.sum())
        if self.rows == 0:
            raise DataError(
                f"store {store.name} has no usable {split} rows; capture more documents"
            )
        self._epoch, self._permuted, self._starts = -1, self._blocks, self._counts
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="interp-pool")
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="interp-gather")
        self._next: tuple[int, int, Future[_Pool]] | None = None
        self._pool: _Pool | None = None

    def __iter__(self) -> Iterator[Float32[np.ndarray, "batch width"]]:
        return self

    def __next__(self) -> Float32[np.ndarray, "batch width"]:
        out = np.empty((self._batch, self._site.width), np.float32)
        filled, position = 0, self._drawn * self._batch
        while filled < self._batch:
            epoch, offset = divmod(position, self.rows)
            pool, start = self._locate(epoch, offset)
            rows = pool.order[start : start + self._batch - filled]
            self._gather(pool.memory, rows, out[filled : filled + len(rows)])
            filled += len(rows)
            position += len(rows)
        self._drawn += 1
        return out

    def _gather(
        self, memory: list[np.ndarray], rows: NDArray[np.int64], out: Float32[np.ndarray, "n width"]
    ) -> None:
        from interp.store.gather import GATHER, bits_of  # compiled loops take long to import

        def part(first: int, last: int) -> None:
            for stored, dtype, place in zip(memory, self._dtypes, self._columns, strict=True):
                GATHER[dtype](first, last, bits_of(stored), rows, out, place.start)

        half = len(rows) // 2 if len(rows) >= SHARED else 0
        other = self._helper.submit(part, 0, half) if half else None
        part(half, len(rows))
        if other is not None:
            other.result()

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands, JSON-ready."""
        return {"drawn": self._drawn, **self._identity}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved place; the next batch is the one that was next then.

        Raises:
            FormatError: the state is of another stream.
        """
        other = {
            name: state.get(name)
            for name in self._identity
            if self._identity[name] != state.get(name)
        }
        drawn = state.get("drawn")
        if other or not isinstance(drawn, int) or drawn < 0:
            here = {name: self._identity[name] for name in other}
            raise FormatError(
                f"the saved place is of another stream of batches ({other} there, {here} here); "
                "start again, or restore what it was made with"
            )
        self._drawn = drawn

    # -- pools ----------------------------------------------------------------------------------

    def _locate(self, epoch: int, offset: int) -> tuple[_Pool, int]:
        """The pool that holds the epoch's row ``offset``, and where in it."""
        starts = self._begin(epoch)
        index = int(np.searchsorted(starts, offset, side="right")) - 1
        pool = self._pool
        if pool is None or (pool.epoch, pool.index) != (epoch, index):
            if self._next is not None and self._next[:2] == (epoch, index):
                pool = self._next[2].result()
            else:
                pool = self._load(epoch, index)
            used, self._pool = self._pool, pool
            self._prefetch(epoch, index + 1, used.memory if used is not None else None)
        return pool, offset - int(starts[index])

    def _prefetch(self, epoch: int, index: int, memory: list[np.ndarray] | None) -> None:
        if index >= len(self._begin(epoch)):
            epoch, index = epoch + 1, 0
        self._next = (epoch, index, self._reader.submit(self._load, epoch, index, memory))

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, epoch]).permutation(len(self._blocks))

    def _begin(self, epoch: int) -> np.ndarray:
        """First row of each pool of an epoch."""
        if epoch != self._epoch:
            counts = self._counts[self._order(epoch)]
            totals = np.add.reduceat(counts, np.arange(0, len(counts), self._per_pool))
            self._starts = np.concatenate([[0], np.cumsum(totals)[:-1]])
            self._epoch = epoch
        return self._starts

    def _load(self, epoch: int, index: int, memory: list[np.ndarray] | None = None) -> _Pool:
        """Read a pool, into the memory of one that is used up if it is given."""
        from interp.store.gather import finite

        if memory is None:
            most = min(self._per_pool, len(self._blocks)) * BLOCK
            pairs = zip(self._parts, self._dtypes, strict=True)
            memory = [np.empty((most, part.width), STORED[dtype]) for part, dtype in pairs]
        chosen = self._order(epoch)[index * self._per_pool : (index + 1) * self._per_pool]
        # Neighbours on disk are read together; the order in the pool is drawn below anyway.
        kept: list[NDArray[np.int64]] = []
        filled = 0
        for start in np.sort(self._blocks[chosen]):
            stop = min(int(start) + BLOCK, self._store.rows)
            for part, dtype, stored in zip(self._parts, self._dtypes, memory, strict=True):
                block = stored[filled : filled + stop - int(start)]
                self._store.read_stored(part, int(start), stop, block)
                if not finite(block, dtype):
                    raise StoreCorrupt(
                        f"store {self._store.path} holds NaN or infinity at {part.name} between "
                        f"rows {start} and {stop}, which no capture writes; `interp verify` says "
                        "where and how to mend it"
                    )
            kept.append(filled + np.flatnonzero(self._mask[start:stop]))
            filled += stop - int(start)
        rows = np.concatenate(kept)
        draw = np.random.default_rng([self._seed, epoch, index])
        return _Pool(epoch, index, memory, rows[draw.permutation(len(rows))])
