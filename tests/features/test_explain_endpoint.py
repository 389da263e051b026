"""What the server of a language model may answer, and what is refused."""

import pytest

from interp.errors import ConfigError, DataError, ResourceError
from interp.features.explain import Endpoint
from tests.features.chat_server import Server, said


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>Welcome</html>", "no chat completion"),
        (b'{"error": "none"}', "no chat completion"),
        (b'{"choices": []}', "no chat completion"),
        (b"[" * 100_000, "no chat completion"),
        (b"\xff\xfe", "no chat completion"),
        (said(["a", "list"]), "no text"),
        (said("x" * 2_000_000), "over 1,048,576 bytes"),
    ],
)
def test_odd_answers_are_refused(server: Server, data: bytes, message: str) -> None:
    server.answer = lambda _: (200, data)
    with pytest.raises(DataError, match=message):
        Endpoint(server.address, "m").ask("s", "q", 5)


def test_servers_that_are_away_busy_or_elsewhere(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interp.features.explain.endpoint.PAUSES", (0.0, 0.0))
    asked = Endpoint(server.address, "m")
    server.answer = lambda _: (503, b"") if len(server.asked) < 3 else (200, said("at last"))
    assert asked.ask("s", "q", 5) == "at last"
    for status in (302, 401, 503):
        server.answer = lambda _, status=status: (status, b"")
        with pytest.raises(ResourceError, match=f"refuses \\({status}"):
            asked.ask("s", "q", 5)
    with pytest.raises(ResourceError, match="gives no answer .* 2 s are allowed"):
        Endpoint("http://127.0.0.1:9/v1", "m", timeout_s=2.0).ask("s", "q", 5)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8080", "file:///etc/passwd", "http://", "http://a?b"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ConfigError, match="no address of a server"):
        Endpoint(address, "m")
    with pytest.raises(ConfigError, match="not into the address"):
        Endpoint("https://me:secret@example.org", "m")
    with pytest.raises(ConfigError, match="--llm-model"):
        Endpoint("http://127.0.0.1/v1", "")
