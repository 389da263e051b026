"""What a reader says about units: label, rating, comment, in a file beside the unit table.

``<workspace>/units/<model>/<site>/<basis>.notes.jsonl`` holds one JSON object a line and is only
ever appended to: the last line of a unit counts, and the history stays.

    {"unit": 17, "time": "2026-11-21T12:00:00.000000+00:00", "label": "...", "rating": 4,
     "comment": "...", "table": "<key of the table that was looked at>"}

1. A line is appended by one write to a file opened for appending, then forced to disk: lines of
   two windows never mix. A line cut short by a crash is skipped, and the next one starts anew.
2. Files of several people are merged by putting one after the other (``cat``): lines are ordered
   by their time, and equal lines count once.
3. A note names the table it was made on. Where the basis was made again since, with other units
   under the same numbers, the page says so.
"""

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from interp.errors import ConfigError
from interp.files import resource_error, sync

SUFFIX, BLIND = ".notes.jsonl", "blind.ratings.jsonl"
RATINGS = ("no meaning", "many meanings", "unclear", "mostly one meaning", "one meaning")
"""What the ratings 1 to 5 say."""
LONGEST = 4000
"""Characters of a comment; a line stays one small write."""

_LOCK = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Note:
    """What was said about one unit at one time; all empty takes an earlier note back."""

    unit: int
    time: str
    """UTC, ISO 8601 to the microsecond."""
    label: str = ""
    rating: int | None = None
    """1 to 5, see `RATINGS`."""
    comment: str = ""
    table: str = ""
    """Key of the unit table it was made on."""

    def __post_init__(self) -> None:
        """Refuse what the file should not hold."""
        if self.unit < 0:
            raise ConfigError(f"a note needs a unit, got {self.unit}")
        if self.rating is not None and not 1 <= self.rating <= len(RATINGS):
            raise ConfigError(f"rating must be 1 to {len(RATINGS)}, got {self.rating}")
        if len(self.label) > LONGEST or len(self.comment) > LONGEST:
            raise ConfigError(f"a note has at most {LONGEST:,} characters; shorten it")

    @property
    def empty(self) -> bool:
        """Whether nothing is said."""
        return not (self.label or self.comment) and self.rating is None


def path_of(table: Path) -> Path:
    """The file of notes beside a unit table."""
    return table.with_name(table.name.removesuffix(".h5") + SUFFIX)


def now() -> str:
    """The present as a note's time."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def append(path: Path, note: Note) -> None:
    """Add a note to a file.

    Raises:
        ResourceError: no space is left, or the folder cannot be written.
    """
    append_line(path, asdict(note))


def append_line(path: Path, entry: Mapping[str, object]) -> None:
    """Add an object to a file of lines by one forced write.

    Raises:
        ResourceError: no space is left, or the folder cannot be written.
    """
    line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
    try:
        with _LOCK:
            torn = path.exists() and not _ends_whole(path)
            new = not path.exists()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            descriptor = os.open(path, flags, 0o644)
            try:
                written = os.write(descriptor, b"\n" * torn + line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if new:
                sync(path.parent)
    except OSError as error:
        raise resource_error(error, path) from error
    if written != len(line) + torn:
        raise resource_error(OSError(28, "no space left"), path)


def history(path: Path) -> list[Note]:
    """Every note of a file by time, equal ones once; lines that are no notes are left out."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    found = {note for line in lines if (note := _parsed(line)) is not None}
    return sorted(found, key=lambda note: (note.time, json.dumps(asdict(note), sort_keys=True)))


def latest(path: Path) -> dict[int, Note]:
    """The last note of every unit that has one."""
    found = {note.unit: note for note in history(path)}
    return {unit: note for unit, note in sorted(found.items()) if not note.empty}


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _parsed(line: bytes) -> Note | None:
    try:
        value: Any = json.loads(line)
        rating = value.get("rating")
        return Note(
            unit=int(value["unit"]),
            time=str(value["time"]),
            label=str(value.get("label", "")),
            rating=None if rating is None else int(rating),
            comment=str(value.get("comment", "")),
            table=str(value.get("table", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError):
        return None
