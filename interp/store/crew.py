"""Processes that write one store together, on one host or several that share its folder.

Rank 0 begins and seals the store; every rank writes shards. They meet in the store's folder
``.ranks`` and nowhere else, so any launcher will do and no process group is needed:

1. Rank 0 takes the store's ``.lock``. While a rank of an earlier run lives, it refuses to begin.
   It empties ``.ranks``, begins the store, takes ``.ranks/0.lock`` and then writes ``plan.json``:
   how many ranks there are, and which shards are missing.
2. Rank r waits until ``0.lock`` is held and the plan is there, takes ``r.lock``, makes sure that
   the plan is still the same, and writes the missing shards r, r + world, r + 2 world, ...
3. The operating system frees the lock of a process that ends, whatever ended it. So a rank that
   joined and whose lock is free has ended: no clocks are compared and nobody has to beat.

Locks must reach all hosts, as they do on local disks, NFS 4, and Lustre mounted with ``flock``.
"""

import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from interp.errors import StoreError
from interp.files import write_json
from interp.store import schema

RANKS, PLAN = ".ranks", "plan.json"
POLL = 0.05
AGAIN = "run the same command again, with any number of processes: it continues"


def held(lock: Path) -> bool:
    """Whether a living process holds a lock."""
    if not lock.exists():
        return False
    probe = FileLock(lock, timeout=0)
    try:
        probe.acquire()
    except Timeout:
        return True
    except OSError:  # removed at this very moment
        return False
    probe.release()
    return False


def refuse_living(folder: Path) -> None:
    """Make sure that no rank of an earlier run still writes.

    Raises:
        StoreError: one does.
    """
    # Rank 0's own lock is not asked: the ranks of this run may be asking it at this moment.
    locks = (folder / RANKS).glob("[1-9]*.lock")
    living = sorted(lock.stem for lock in locks if held(lock))
    if living:
        raise StoreError(
            f"rank {', '.join(living)} of another capture is writing {folder}; wait until it has "
            "ended, or choose another --out"
        )


def clear(folder: Path) -> None:
    """Remove what the ranks of an ended run have left."""
    shutil.rmtree(folder / RANKS, ignore_errors=True)


class Crew:
    """Rank 0's view of the ranks."""

    def __init__(self, folder: Path, world: int, missing: Sequence[int]) -> None:
        """Call the others to a store that has been begun."""
        self.folder, self.world, self.missing = folder, world, tuple(missing)
        place = folder / RANKS
        place.mkdir(exist_ok=True)
        # Others look whether it is held, and hold it while they look.
        self._lock = FileLock(place / "0.lock", timeout=10)
        self._lock.acquire()
        plan = {"run": uuid.uuid4().hex, "world": world, "missing": list(self.missing)}
        write_json(place / PLAN, plan)

    def owner(self, index: int) -> int:
        """The rank that writes a missing shard."""
        return self.missing.index(index) % self.world

    def joined(self, rank: int) -> bool:
        """Whether a rank has come."""
        return (self.folder / RANKS / f"{rank}.lock").exists()

    def lives(self, rank: int) -> bool:
        """Whether a rank is there now."""
        return held(self.folder / RANKS / f"{rank}.lock")

    def wait_for(
        self, collect: Callable[[], frozenset[int]], timeout: float, report: Callable[[], None]
    ) -> None:
        """Wait until the other ranks' shards are there.

        Args:
            collect: looks for shards and gives all that are there.
            timeout: seconds without a new shard after which waiting ends.
            report: called whenever there is a new shard.

        Raises:
            StoreError: all that still owe shards have ended, or nothing came for too long.
        """
        seen, since = frozenset[int](), time.monotonic()
        while True:
            there = collect()
            if there != seen:
                seen, since = there, time.monotonic()
                report()
            left = [index for index in self.missing if index not in there]
            if not left:
                return
            owners = sorted({self.owner(index) for index in left})
            if all(self.joined(rank) and not self.lives(rank) for rank in owners):
                if collect() == there:  # else published just before its end
                    raise self._lacks(left, owners, "ended before writing them, see its message")
            elif time.monotonic() - since > timeout:
                absent = [rank for rank in owners if not self.joined(rank)]
                what = f"{'never joined' if absent else 'wrote nothing more'} for {timeout:g} s"
                raise self._lacks(left, absent or owners, what)
            time.sleep(POLL)

    def _lacks(self, left: Sequence[int], ranks: Sequence[int], what: str) -> StoreError:
        files = [schema.shard_file(index) for index in left]
        named = ", ".join(files[:8]) + (f" and {len(files) - 8} more" if len(files) > 8 else "")
        who = ", ".join(map(str, ranks))
        return StoreError(
            f"{self.folder} lacks {named}: rank {who} of {self.world} {what}; {AGAIN}"
        )

    def close(self) -> None:
        """Let the others see that rank 0 has ended."""
        self._lock.release()
