"""Tables made in parts: ranges of a basis' units, shared by any number of processes.

1. A basis of more than ``UNITS`` units is cut into equal ranges. Where the cuts are depends on the
   number of units alone, and a part on nothing outside it, so the table has the same bytes however
   many processes made it, in whatever order, killed or not.
2. A process claims parts by a lock beside them, which the operating system frees if the process
   ends, whatever ends it; what a dead process has claimed, another one takes. No process needs to
   know of any other. Of several ranks each claims at first every so many-th part.
3. A finished part is a unit table of its own, written at once. When all are there, one process
   puts them together. Killed before, the same command makes only what is missing.

Locks must reach all hosts, as they do on local disks, NFS 4, and Lustre mounted with ``flock``.
"""

import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from interp.errors import FormatError
from interp.features.activations import UnitActivations, activations_path, join_activations
from interp.features.bases import Basis
from interp.features.table import UnitTable
from interp.features.table_join import join_tables

UNITS = 4096
"""Most units of one part."""


@dataclass(frozen=True)
class Job:
    """The table of one basis, to be made."""

    basis: Basis
    path: Path
    key: str
    """Hash of everything that decides its numbers."""
    activations: bool
    """Whether all activations are kept beside it."""

    @property
    def folder(self) -> Path:
        """Where its parts lie until it is there."""
        return self.path.with_name(f"{self.path.name}.parts")

    @property
    def parts(self) -> "list[Part]":
        """Its parts, in order of units."""
        units = self.basis.n_units
        count = -(-units // UNITS)
        cuts = [units * i // count for i in range(count + 1)]
        return [Part(self, a, b) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]

    @property
    def done(self) -> bool:
        """Whether it is there and up to date."""
        return _is_there(self.path, self)


@dataclass(frozen=True)
class Part:
    """A range of a basis' units."""

    job: Job
    first: int
    last: int
    """The unit after the range."""

    @property
    def path(self) -> Path:
        """Its own table."""
        return self.job.folder / f"{self.first:08d}-{self.last:08d}.h5"

    @property
    def units(self) -> int:
        """How many units it has."""
        return self.last - self.first

    @property
    def done(self) -> bool:
        """Whether it is there and up to date."""
        return _is_there(self.path, self.job)


@contextmanager
def claimed(
    parts: Sequence[Part], ranks: tuple[int, int], size: Callable[[int], int], room: int
) -> Generator[list[Part]]:
    """Those of some missing parts that nobody else works on: a fair share of them, held meanwhile.

    Args:
        parts: missing, in the same order for all processes.
        ranks: the number of this process, and how many there are.
        size: what so many units take.
        room: what those claimed may take together; one part is claimed in any case.
    """
    rank, world = ranks
    mine = parts[rank::world]
    held: list[Part] = []
    with ExitStack() as stack:
        for part in [*mine, *(part for part in parts if part not in mine)]:
            share = -(-len(parts) // world)
            taken = sum(size(each.units) for each in held)
            if held and (len(held) == share or taken + size(part.units) > room):
                break
            try:
                part.path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(part.path.with_suffix(".lock"), timeout=0))
            except (Timeout, FileNotFoundError):  # taken, or joined and removed this moment
                continue
            if not (part.done or part.job.done):  # by another one, a moment ago
                held.append(part)
        yield sorted(held, key=parts.index)


def join(job: Job) -> None:
    """Put a job's parts together, all of which are there, and remove them."""
    lock = FileLock(job.folder / "join.lock")
    try:
        held = lock.acquire()
    except FileNotFoundError:
        return  # another process has done it and removed the folder this moment
    with held:
        if not job.done:
            parts = [part.path for part in job.parts]
            if job.activations:
                kept = [activations_path(path) for path in parts]
                join_activations(activations_path(job.path), kept)
            join_tables(job.path, parts)
    shutil.rmtree(job.folder, ignore_errors=True)


def _is_there(path: Path, job: Job) -> bool:
    try:
        if not path.is_file() or UnitTable.open(path).key != job.key:
            return False
        return not job.activations or UnitActivations.open(activations_path(path)).key == job.key
    except FormatError:
        return False  # written anew
