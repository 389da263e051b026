"""`interp app` opens a browser window when the app answers, and none when it cannot start."""

import socket
import time
import webbrowser

import pytest

from interp.cli import app
from interp.workspace import Workspace


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("browser", [True, False])
def test_a_window_opens_once_the_app_answers(tmp_path, monkeypatch, browser):
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    port = free_port()
    process = app.start(Workspace.at(tmp_path), port, browser=browser)
    try:
        assert opened == []  # not before it listens
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        for _ in range(30):
            if opened:
                break
            time.sleep(0.1)
        assert opened == [f"http://localhost:{port}"] * browser
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_no_window_opens_for_an_app_that_has_ended(tmp_path, monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(app.sys, "executable", "/bin/false")
    process = app.start(Workspace.at(tmp_path), free_port(), browser=True)
    assert process.wait(timeout=30) != 0
    time.sleep(0.5)
    assert opened == []
