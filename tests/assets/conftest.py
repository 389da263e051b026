"""A package index of one's own: a real HTTP server on this machine, and small archives."""

import base64
import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from interp.assets.pinned import Asset

WHEEL = "words-1.0-py3-none-any.whl"


def wheel(**members: str) -> bytes:
    """A wheel with the given members; ``__`` in a name stands for ``/``."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in members.items():
            archive.writestr(name.replace("__", "/"), text)
    return data.getvalue()


def sdist(*members: tarfile.TarInfo, text: bytes = b"text") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for member in members:
            member.size = len(text) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(text) if member.isreg() else None)
    return data.getvalue()


def asset(data: bytes, file: str = WHEEL, members: tuple[str, ...] = ("words/*",)) -> Asset:
    return Asset(
        name="words",
        package="words",
        file=file,
        sha256=hashlib.sha256(data).hexdigest(),
        members=members,
        what="words",
        licence="CC0",
    )


@dataclass
class Index:
    """What the server serves, what it was asked, and how it misbehaves."""

    port: int
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(path, Range header) of each request."""
    kind: str = "json"
    ranges: bool = True
    break_after: int | None = None
    """Bytes after which an answer without Range breaks off."""
    password: str = ""
    """``user:password`` every request must carry, if set."""
    code: int = 200
    """What is answered below ``broken``, if it is an error."""
    broken: str = "/"
    shift: int = 0
    """By how much the range that comes misses the one asked for."""
    stop: Callable[[], None] = lambda: None
    """Take the server off the network."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/simple"

    def page(self) -> tuple[str, bytes]:
        digests = {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}
        if self.kind == "json":
            files = [
                {"filename": name, "url": f"/files/{name}", "hashes": {"sha256": digest}}
                for name, digest in digests.items()
            ]
            text = json.dumps({"name": "words", "files": files})
            return "application/vnd.pypi.simple.v1+json", text.encode()
        links = "".join(
            f'<a href="../../files/{name}#sha256={digest}">{name}</a><br>'
            for name, digest in digests.items()
        )
        return "text/html", f"<!DOCTYPE html><html><body>{links}</body></html>".encode()


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """A running index that pip's settings point at."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(lambda: state))
    state = Index(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    state.stop = stop
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", state.url)
    yield state
    if thread.is_alive():
        stop()


def _handler(index: Callable[[], Index]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state, wanted = index(), self.headers.get("Range", "")
            state.asked.append((self.path, wanted))
            said = self.headers.get("Authorization", "").removeprefix("Basic ")
            if base64.b64decode(said).decode() != state.password and state.password:
                self._send(401, b"who are you?", {})
                return
            if state.code >= 400 and self.path.startswith(state.broken):
                self._send(state.code, b"no", {})
                return
            if self.path == "/simple/words/":
                kind, data = state.page()
                self._send(200, data, {"Content-Type": kind})
                return
            data = state.files.get(Path(self.path).name)
            if data is None:
                self._send(404, b"no", {})
            elif wanted and state.ranges:
                start = int(wanted.removeprefix("bytes=").removesuffix("-")) + state.shift
                if start >= len(data):
                    self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                    return
                where = f"bytes {start}-{len(data) - 1}/{len(data)}"
                self._send(206, data[start:], {"Content-Range": where})
            else:
                self._send(200, data, {}, state.break_after)

        def _send(
            self, code: int, data: bytes, headers: dict[str, str], most: int | None = None
        ) -> None:
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data[:most])
            if most is not None:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler
