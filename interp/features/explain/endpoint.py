"""Any server that speaks OpenAI's chat completions: llama.cpp, vLLM, Ollama, a service.

The only file of the project that sends anything anywhere, and only where a command names the place.
The key comes from the environment variable ``INTERP_LLM_KEY`` alone and is written nowhere.
"""

import http.client
import ipaddress
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from interp.errors import ConfigError, DataError, ResourceError

KEY = "INTERP_LLM_KEY"
MOST_BYTES = 1 << 20
"""Of an answer; a longer one is refused."""
PAUSES = (1.0, 4.0)
"""Seconds before a request is made again that the server was too busy for."""
BUSY = (429, 502, 503, 504)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key, and the text, to another place than was named."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: urllib then raises the redirect as an error."""


class Endpoint:
    """A chat model behind an address."""

    def __init__(self, address: str, model: str, *, timeout_s: float = 60.0) -> None:
        """Check the address; nothing is sent yet.

        Args:
            address: such as ``http://127.0.0.1:8080/v1``.
            model: the name that the server knows it by.
            timeout_s: seconds to wait for an answer.

        Raises:
            ConfigError: no usable address, or a key that would be sent in the clear.
        """
        parts = urllib.parse.urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ConfigError(
                f"{address!r} is no address of a server; write it as http://127.0.0.1:8080/v1"
            )
        if parts.username or parts.password:
            raise ConfigError(f"put the key into the variable {KEY}, not into the address")
        if not model:
            raise ConfigError("an endpoint needs the name of its model, as by --llm-model NAME")
        if timeout_s <= 0:
            raise ConfigError("the timeout must be above 0 seconds")
        self.backend, self.model, self._timeout = address.rstrip("/"), model, timeout_s
        self._key = os.environ.get(KEY, "")
        if not (self._key.isascii() and self._key.isprintable()):
            raise ConfigError(
                f"the variable {KEY} holds no key: it has control or other characters"
            )
        local = _is_local(parts.hostname)
        if self._key and parts.scheme == "http" and not local:
            raise ConfigError(
                f"{self.backend} would get the key of {KEY} unencrypted; use https, or unset {KEY}"
            )
        handlers: list[Any] = [_NoRedirect()]
        if local:
            handlers.append(urllib.request.ProxyHandler({}))  # this machine needs no proxy
        self._opener = urllib.request.build_opener(*handlers)

    def ask(self, system: str, question: str, words: int) -> str:
        """The model's answer.

        Raises:
            ResourceError: the server cannot be reached, is too busy, or refuses.
            DataError: it answers with something else than a chat completion.
        """
        body = {
            "model": self.model,
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": question},
            ],
            "temperature": 0,
            "max_tokens": 2 * words,
        }
        for pause in (*PAUSES, None):
            try:
                return self._answer(json.dumps(body).encode())
            except urllib.error.HTTPError as error:
                if error.code in BUSY and pause is not None:
                    time.sleep(pause)
                    continue
                raise ResourceError(
                    f"{self.backend} refuses ({error.code} {_plain(error.reason)}); check its "
                    f"address, the model's name {self.model!r} and the variable {KEY}"
                ) from error
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                raise ResourceError(
                    f"{self.backend} gives no answer ({_plain(reason)}; {self._timeout:g} s are "
                    "allowed); start the server, or name another with --endpoint"
                ) from error
        raise AssertionError("the last try returns or raises")

    def _answer(self, body: bytes) -> str:
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(f"{self.backend}/chat/completions", body, headers)
        with self._opener.open(request, timeout=self._timeout) as answer:
            data: bytes = answer.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise DataError(f"{self.backend} answers with over {MOST_BYTES:,} bytes; {_CHECK}")
        try:
            content = json.loads(data)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            raise DataError(f"{self.backend} answers with no chat completion; {_CHECK}") from error
        if content is not None and not isinstance(content, str):
            raise DataError(f"{self.backend} answers with no text; {_CHECK}")
        return content or ""


_CHECK = "check that the address is that of an OpenAI-compatible server, with its /v1"


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _plain(reason: object) -> str:
    """A server's or the system's words, fit for a terminal."""
    return "".join(c if c.isprintable() else " " for c in str(reason))[:120]
