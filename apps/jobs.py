"""Jobs the app starts: `interp` commands as processes of their own, each with a small record.

``<workspace>/jobs/<id>/``:

    job.json     what was asked for: verb, arguments, when; written by the app
    state.json   process id, when it started, when and how it ended; written by `apps.supervise`
    log.txt      everything the command printed, of every attempt
    cancel       there while a cancellation is asked for
    lock         held by the supervisor, dropped by the system when it dies

1. A job never belongs to the app: its supervisor is a session of its own, so it survives a page
   that is closed and an app that is stopped. Whether it lives is read off the lock, which no other
   process that happens to get its number can hold.
2. The app signals nobody. It leaves ``cancel``; the supervisor sends its own child what Ctrl-C
   sends, and what was finished is kept.
3. To resume is to run the same command again: every verb continues by itself.
"""

import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from apps import launch
from apps.fields import VERBS
from interp.errors import ConfigError, FormatError, InterpError, UnknownName
from interp.files import read_json, resource_error, write_json, write_text
from interp.workspace import Workspace, safe

FORMAT, VERSION = "interp-job", 1
RECORD, STATE, LOG, CANCEL, LOCKED = "job.json", "state.json", "log.txt", "cancel", "lock"
GRACE = 30.0
"""Seconds a supervisor may take to show itself before its job counts as broken off."""
TAIL = 64_000
"""Bytes of a log's end that are read."""

State = Literal["starting", "running", "finished", "cancelled", "failed", "broken off"]
_PROGRESS = re.compile(r"^(.+?): +(\d+)% of ([\d,]+) ([^,]+), (\d+) s left *(.*)$")
_PROBE = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Job:
    """One job as it stands on disk."""

    path: Path
    verb: str
    arguments: tuple[str, ...]
    """What follows the verb, the workspace left out."""
    asked: datetime
    """When it was last started, UTC."""
    state: State
    code: int | None = None
    """What the command ended with; None while it runs or if nobody knows."""
    cancelling: bool = False
    """Whether its end is asked for and awaited."""

    @property
    def name(self) -> str:
        """Its id."""
        return self.path.name

    @property
    def live(self) -> bool:
        """Whether it may still change."""
        return self.state in ("starting", "running")

    @property
    def command(self) -> str:
        """The same on a command line."""
        return shlex.join(["interp", self.verb, *self.arguments])


@dataclass(frozen=True)
class Reach:
    """How far a job says it is."""

    label: str
    share: float
    left: int
    """Seconds that it expects to take."""
    note: str


def start(workspace: Workspace, verb: str, arguments: Sequence[str]) -> Job:
    """Begin a command as a job of its own.

    Raises:
        UnknownName: the app does not start this verb.
        ResourceError: the workspace cannot be written.
    """
    if verb not in VERBS:
        raise UnknownName("job", verb, VERBS)
    now = datetime.now(UTC)
    name = f"{now:%Y%m%d-%H%M%S}-{verb}-{secrets.token_hex(2)}"
    path = folder(workspace, name)
    record = {"format": FORMAT, "version": VERSION, "verb": verb, "arguments": list(arguments)}
    write_json(path / RECORD, {**record, "asked": now.isoformat()})
    _launch(workspace, path)
    return read(path)


def resume(workspace: Workspace, job: Job) -> Job:
    """Run a job's command again: it continues where it stopped.

    Raises:
        ConfigError: it is running.
        ResourceError: the workspace cannot be written.
    """
    if read(job.path).live:
        raise ConfigError(f"job {job.name} is running; cancel it first")
    record = read_json(job.path / RECORD)
    write_json(job.path / RECORD, {**record, "asked": datetime.now(UTC).isoformat()})
    for name in (CANCEL, STATE):
        (job.path / name).unlink(missing_ok=True)
    _launch(workspace, job.path)
    return read(job.path)


def cancel(job: Job) -> None:
    """Ask for a job's end; asked again, it ends at once.

    Raises:
        ResourceError: the workspace cannot be written.
    """
    times = cancellations(job.path)
    write_text(job.path / CANCEL, f"{times + 1}\n")


def forget(job: Job) -> None:
    """Delete the record of a job that has ended; what it made stays.

    Raises:
        ConfigError: it is running.
    """
    if read(job.path).live:
        raise ConfigError(f"job {job.name} is running; cancel it first")
    shutil.rmtree(job.path, ignore_errors=True)


def folder(workspace: Workspace, name: str) -> Path:
    """The folder of a job, always inside the workspace.

    Raises:
        ConfigError: the name is no folder name.
    """
    return workspace.root / "jobs" / safe(name)


def find(workspace: Workspace, name: str) -> Job:
    """A job by its id.

    Raises:
        ConfigError: there is none of that id.
        FormatError: its record is damaged or foreign.
    """
    path = folder(workspace, name)
    if not (path / RECORD).is_file():
        raise UnknownName("job", name, [each.name for each in listed(workspace)])
    return read(path)


def listed(workspace: Workspace) -> list[Job]:
    """Every readable job, the latest first."""
    found: list[Job] = []
    for path in (workspace.root / "jobs").glob(f"*/{RECORD}"):
        try:
            found.append(read(path.parent))
        except InterpError:
            continue
    return sorted(found, key=lambda job: (job.asked, job.name), reverse=True)


def read(path: Path) -> Job:
    """A job by its folder.

    Raises:
        FormatError: its record is missing, damaged or foreign.
    """
    record = read_json(path / RECORD)
    if record.get("format") != FORMAT or record.get("version") != VERSION:
        raise FormatError(f"{path / RECORD} is no record of a job; delete its folder")
    try:
        verb, arguments = VERBS[VERBS.index(record["verb"])], tuple(map(str, record["arguments"]))
        asked = datetime.fromisoformat(record["asked"])
        age = (datetime.now(UTC) - asked).total_seconds()
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path / RECORD} is malformed ({error!r}); delete its folder") from error
    state, code = _state(path, age)
    return Job(
        path=path,
        verb=verb,
        arguments=arguments,
        asked=asked,
        state=state,
        code=code,
        cancelling=state == "running" and cancellations(path) > 0,
    )


def tail(job: Job, lines: int = 12) -> list[str]:
    """The last lines a job printed."""
    try:
        with (job.path / LOG).open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - TAIL, 0))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]


def reach(job: Job) -> Reach | None:
    """How far a job says it is, by the last line that says so; None before the first."""
    for line in reversed(tail(job, 200)):
        found = _PROGRESS.match(line)
        if found:
            label, share, _, _, left, note = found.groups()
            return Reach(label, min(int(share), 100) / 100, int(left), note)
    return None


def cancellations(path: Path) -> int:
    """How often a job's end was asked for."""
    try:
        return int((path / CANCEL).read_text())
    except (OSError, ValueError):
        return 0


def _state(path: Path, age: float) -> tuple[State, int | None]:
    held = _held(path / LOCKED)
    try:
        ended: dict[str, Any] = read_json(path / STATE)
    except FormatError:
        ended = {}
    code = ended.get("code")
    if not held and isinstance(code, int):
        if code == 0:
            return "finished", 0
        return ("cancelled" if ended.get("cancelled") else "failed"), code
    if held:
        return ("running" if ended else "starting"), None
    return ("broken off" if ended or age > GRACE else "starting"), None


def _held(path: Path) -> bool:
    if not path.exists():
        return False
    with _PROBE:  # else two pages that look at the same time would see each other
        try:
            with FileLock(path, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return False


def _launch(workspace: Workspace, path: Path) -> None:
    line = [sys.executable, "-m", "apps.supervise", str(path), str(workspace.root)]
    apart: dict[str, Any] = (
        {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
        if os.name == "nt"
        else {"start_new_session": True}
    )
    try:
        with (path / LOG).open("ab") as log:
            process = subprocess.Popen(
                line,
                env={**launch.environment(workspace.root), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                **apart,
            )
    except OSError as error:
        raise resource_error(error, path) from error
    # Someone must await it, or it stays a zombie for as long as the app runs.
    threading.Thread(target=process.wait, daemon=True).start()
