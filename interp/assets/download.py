"""Fetching pages and files over HTTP or from a folder; downloads continue where they stopped."""

import re
import shutil
from pathlib import Path
from typing import Any

import requests

from interp.assets.listing import Link, links_in_folder, links_in_html, links_in_json, local_path
from interp.assets.settings import IndexSettings
from interp.progress import Progress

TIMEOUT = (15, 60)
"""Seconds to wait for a connection, and between two blocks of an answer."""
ATTEMPTS = 4
"""How often a download that breaks off is continued before giving up."""
_PAGES = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"
_BLOCK = 1 << 16


class Unreachable(Exception):
    """An index or a file that did not answer; the message is the reason, without any URL."""


class Client:
    """One session with pip's certificate and proxy settings."""

    def __init__(self, settings: IndexSettings) -> None:
        self._session = requests.Session()
        if settings.cert:
            self._session.verify = settings.cert
        if settings.client_cert:
            self._session.cert = settings.client_cert
        if settings.proxy:
            self._session.proxies = {"http": settings.proxy, "https": settings.proxy}

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def links(self, location: str) -> list[Link]:
        """The files a page or a folder offers; empty where there is no such page.

        Raises:
            Unreachable: the server did not answer, or with an error of its own.
        """
        try:
            path = local_path(location)
        except ValueError as error:
            raise Unreachable("malformed") from error
        if path is not None:
            return _local_links(path)
        answer = self._get(location, {"Accept": _PAGES})
        with answer:
            if answer.status_code in (404, 410):
                return []
            _check(answer)
            try:
                kind = answer.headers.get("Content-Type", "").lower()
                read = links_in_json if "json" in kind else links_in_html
                return read(answer.text, answer.url)
            except requests.RequestException as error:
                raise Unreachable(_reason(error)) from error

    def download(self, link: Link, partial: Path, progress: Progress, note: str) -> None:
        """Bring a file to ``partial``, appending to what lies there already.

        Raises:
            Unreachable: the file did not come, or not whole; what came of it is kept.
        """
        path = local_path(link.url)
        if path is not None:
            if not path.is_file():
                raise Unreachable(f"{path} does not exist")
            shutil.copyfile(path, partial)
            return
        for attempt in range(ATTEMPTS):
            had = partial.stat().st_size if partial.exists() else 0
            try:
                self._continue(link.url, partial, had, progress, note)
                return
            except (requests.RequestException, Unreachable) as error:
                now = partial.stat().st_size if partial.exists() else 0
                if attempt + 1 == ATTEMPTS or now <= had:  # no byte came: trying again is no use
                    raise Unreachable(_reason(error)) from error

    def _continue(self, url: str, partial: Path, had: int, progress: Progress, note: str) -> None:
        """One request for the bytes still missing."""
        headers = {"Accept-Encoding": "identity"}
        if had:
            headers["Range"] = f"bytes={had}-"
        with self._get(url, headers, stream=True) as answer:
            if answer.status_code == 416 and had:  # nothing is missing, or the file is another one
                if _whole(answer) != had:
                    partial.unlink()
                    self._continue(url, partial, 0, progress, note)
                return
            _check(answer)
            if answer.status_code != 206 or not _starts_at(answer, had):
                if answer.status_code == 206:
                    raise Unreachable("the server answered with another range than asked for")
                had = 0
            total = had + int(answer.headers.get("Content-Length") or 0)
            with partial.open("ab" if had else "wb") as file:
                for block in answer.iter_content(_BLOCK):
                    file.write(block)
                    progress(file.tell(), max(total, file.tell()), note)
                if file.tell() < total:
                    raise Unreachable("the connection closed before the end of the file")

    def _get(self, url: str, headers: dict[str, str], **options: Any) -> requests.Response:
        try:
            return self._session.get(url, headers=headers, timeout=TIMEOUT, **options)
        except requests.RequestException as error:
            raise Unreachable(_reason(error)) from error


def _local_links(path: Path) -> list[Link]:
    """The links of a local page, or the files of a folder that has no page."""
    page = path / "index.html" if path.is_dir() else path
    if page.is_file():
        base = page.resolve().parent.as_uri() + "/"
        return links_in_html(page.read_text(encoding="utf-8", errors="replace"), base)
    return links_in_folder(path) if path.is_dir() else []


def _check(answer: requests.Response) -> None:
    if answer.status_code >= 400:
        raise Unreachable(f"the server answered {answer.status_code}")


def _whole(answer: requests.Response) -> int | None:
    """Length of the whole file, as a 416 answer states it."""
    match = re.fullmatch(r"bytes \*/(\d+)", answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _starts_at(answer: requests.Response, start: int) -> bool:
    return answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _reason(error: Exception) -> str:
    """Why a request failed, in words that cannot carry a URL or a password."""
    if isinstance(error, Unreachable):
        return str(error)
    for kind, text in (
        (requests.exceptions.SSLError, "its certificate is not trusted"),
        (requests.exceptions.ProxyError, "the proxy does not answer"),
        (requests.exceptions.Timeout, "no answer in time"),
        (requests.exceptions.ChunkedEncodingError, "the connection broke off"),
        (requests.exceptions.ConnectionError, "no connection"),
    ):
        if isinstance(error, kind):
            return text
    return type(error).__name__
