"""The app served for tests: the real server, and a browser's page that notes what it is told."""

import os
import re
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Locator

from apps import launch

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip
AT_REST = """key => {
    const app = document.querySelector("[data-testid=stApp]");
    const bound = key === null ? true : key === "/" ? window.interpSlash
        : window.hotkeys.getAllKeyCodes().some(each => each.shortcut === key);
    const rests = bound && app.dataset.testScriptState === "notRunning";
    window.restsSince = rests ? window.restsSince ?? performance.now() : undefined;
    return rests && performance.now() - window.restsSince > 300;
}"""
"""No run of the page's script for a while, and a key, if one is named, means something to it."""


class Visit:
    """One page of the browser, with everything it asked for and complained about."""

    def __init__(self, page, base: str) -> None:
        self.page, self.base = page, base
        self.foreign: list[str] = []
        self.errors: list[str] = []
        self.received = 0
        page.on("request", self._request)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("websocket", lambda ws: ws.on("framereceived", self._frame))

    def _request(self, request) -> None:
        if not request.url.startswith((self.base, "data:", "blob:")):
            self.foreign.append(request.url)

    def _console(self, message) -> None:
        # On a deep link Streamlit probes /<page>/_stcore/... before it finds its root.
        probe = re.search(r"/_stcore/(health|host-config)$", message.location.get("url", ""))
        if message.type == "error" and not probe:
            self.errors.append(f"{message.text} {message.location}")

    def _frame(self, payload) -> None:
        self.received += len(payload)

    def open(self, path: str, until: str) -> float:
        """Open a path, wait for a selector, return the seconds it took."""
        begun = time.monotonic()
        self.page.goto(self.base + path)
        self.page.wait_for_selector(until, timeout=20_000)
        return time.monotonic() - begun

    def press(self, key: str) -> None:
        """Press a key once the page rests; during a run its button may be about to be replaced."""
        self.page.wait_for_function(AT_REST, arg=key)
        self.page.keyboard.press(key)

    def rest(self) -> None:
        """Wait until no run of the page's script is under way."""
        self.page.wait_for_function(AT_REST, arg=None)

    def wait_for_text(self, text: str) -> None:
        """Wait until a text is visible; if it never is, tell what is there instead."""
        self._wait_for(self.page.get_by_text(text), text)

    def wait_for(self, selector: str) -> None:
        """Wait until an element is visible; if it never is, tell what is there instead."""
        self._wait_for(self.page.locator(selector), selector)

    def _wait_for(self, wanted: Locator, name: str) -> None:
        try:
            wanted.wait_for()
        except PlaywrightError as error:
            there = self.page.locator("[data-testid=stApp]")
            state = there.get_attribute("data-test-script-state")
            raise AssertionError(
                f"no {name!r} at {self.page.url} ({state}; {self.errors}):\n{there.inner_text()}"
            ) from error


@contextmanager
def served(root: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The app on a workspace, by its address and its process, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = root.parent / f"server-{port}.log"
    with log.open("wb") as out:
        server = subprocess.Popen(
            launch.command(port, headless=True),
            env=launch.environment(root), cwd=root, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        base = f"http://localhost:{port}"
        for _ in range(600):
            if server.poll() is not None:
                raise RuntimeError(f"the app ended: {log.read_text()[-2000:]}")
            try:
                urllib.request.urlopen(f"{base}/_stcore/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield base, server
    finally:
        server.terminate()
        server.wait(timeout=30)
