"""A rank other than 0: it joins a store that rank 0 has begun, and writes its share of shards."""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from interp.errors import FormatError, StoreError
from interp.files import read_json
from interp.store.crew import AGAIN, PLAN, POLL, RANKS, clear, held
from interp.store.publisher import ShardPublisher
from interp.store.schema import Manifest


class StoreMember(ShardPublisher):
    """A rank's part in a store, as a context manager; `crew` says how the ranks meet."""

    def __init__(
        self, path: str | Path, manifest: Manifest, *, rank: int, world: int, timeout: float
    ) -> None:
        """Wait for rank 0 and join.

        Args:
            path: the store's folder.
            manifest: what the store will be.
            rank: this process, from 1 on.
            world: how many processes there are.
            timeout: seconds without a sign of rank 0 after which waiting ends.

        Raises:
            StoreError: rank 0 did not come, or writes something else, or this rank is there twice.
        """
        super().__init__(Path(path), manifest, {})
        self.rank, self.world, self._timeout = rank, world, timeout
        self._place = self.path / RANKS
        self._lock: FileLock | None = None
        asked, since = manifest, time.monotonic()
        while not self._join():
            if self._is_sealed(asked):  # there was nothing left for this rank
                clear(self.path)
                return
            if time.monotonic() - since > timeout:
                raise StoreError(
                    f"rank {rank} of {world} waited {timeout:g} s for rank 0 to begin {path}; "
                    "start all ranks together, or unset RANK, WORLD_SIZE and SLURM_NTASKS to "
                    "capture with one process"
                )
            time.sleep(POLL)
        there = Manifest.read(self.path)
        if (there.request, there.plan) != (asked.request, asked.plan):
            self._leave()
            raise StoreError(
                f"rank {rank} would capture something else than rank 0 does into {path}; give all "
                "ranks the same command, model and corpus"
            )
        self.manifest = there

    def _plan(self) -> dict[str, Any] | None:
        """Rank 0's plan, if rank 0 lives."""
        # In this order: the plan of an ended run is removed before rank 0 takes its lock.
        if not held(self._place / "0.lock"):
            return None
        try:
            return read_json(self._place / PLAN)
        except FormatError:
            return None

    def _join(self) -> bool:
        plan = self._plan()
        if plan is None:
            return False
        if plan["world"] != self.world:
            raise StoreError(
                f"rank {self.rank} of {self.world} found a capture of {plan['world']} processes "
                f"in {self.path}; wait for it or choose another --out"
            )
        lock = FileLock(self._place / f"{self.rank}.lock", timeout=1)
        try:
            lock.acquire()
        except Timeout as error:
            raise StoreError(
                f"another rank {self.rank} is writing {self.path}; give each process its own rank"
            ) from error
        except OSError:  # sealed and tidied meanwhile
            return False
        self._lock = lock
        if self._plan() != plan:
            self._leave()
            return False
        self.mine = tuple(plan["missing"][self.rank :: self.world])
        return True

    def _is_sealed(self, asked: Manifest) -> bool:
        try:
            there = Manifest.read(self.path)
        except FormatError:  # not begun
            return False
        whole = all((self.path / entry.file).is_file() for entry in there.shards)
        return there.state == "sealed" and there.request == asked.request and whole

    def decide(self, *, dtypes: object, sinks: object) -> None:
        """Take over what rank 0's first shard decides; this rank's own opinion does not count.

        Raises:
            StoreError: rank 0 ended before it decided, or takes too long.
        """

        def decided() -> bool:
            self.manifest = Manifest.read(self.path)
            return bool(self.manifest.sinks)

        self._wait(decided, "finish the first shard")

    def finish(self, timeout: float, report: Callable[[], None]) -> None:
        """Wait until rank 0 has sealed the store.

        Raises:
            StoreError: rank 0 ended before, or takes too long.
            ResourceError: no space is left for this rank's last shard.
        """
        self.flush()
        if self._lock is None:
            return

        def sealed() -> bool:
            self.manifest = Manifest.read(self.path)
            return self.manifest.state == "sealed"

        self._wait(sealed, "seal the manifest")

    def _wait(self, ready: Callable[[], bool], what: str) -> None:
        since, seen = time.monotonic(), -1
        while not ready():
            if not held(self._place / "0.lock"):
                if ready():
                    return
                raise StoreError(
                    f"rank {self.rank} waited for rank 0 to {what} of {self.path}, but it has "
                    f"ended, see its message; {AGAIN}"
                )
            if time.monotonic() - since > self._timeout:
                done = sum(1 for _ in self.path.glob("shard-*.json"))
                if done == seen:
                    raise StoreError(
                        f"rank {self.rank} waited {self._timeout:g} s for rank 0 to {what}; {AGAIN}"
                    )
                since, seen = time.monotonic(), done
            time.sleep(POLL)

    def _leave(self) -> None:
        if self._lock is not None:
            # Rank 0 has done so, but asking for its lock may have made the file again. This comes
            # first: while this rank's lock is held, no other run begins.
            if self.manifest.state == "sealed":
                clear(self.path)
            self._lock.release()

    def __enter__(self) -> "StoreMember":
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
            self._leave()
