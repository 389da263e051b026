"""Links to files, out of an index's pages: PEP 503 (HTML), PEP 691 (JSON), or a plain folder."""

import json
from contextlib import suppress
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urldefrag, urljoin, urlsplit, urlunsplit
from urllib.request import url2pathname


@dataclass(frozen=True)
class Link:
    """One file an index offers."""

    file: str
    """File name."""
    url: str
    """Absolute URL without its fragment."""
    sha256: str = ""
    """Digest the index states, if it does."""


def shown(url: str) -> str:
    """A URL or path fit for a message: without user name, password, query and fragment.

    >>> shown("https://me:secret@example.org/simple/?token=1")
    'https://example.org/simple/'
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if a password with a special character made half of it a port
    except ValueError:
        return "an address that is no URL"
    if not parts.netloc:
        return url
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def local_path(location: str) -> Path | None:
    """The path a location means if it is a file URL or no URL at all, else None.

    >>> local_path("https://example.org/simple") is None
    True
    """
    parts = urlsplit(location)
    if parts.scheme == "file":
        return Path(url2pathname(unquote(parts.path)))
    if "://" in location:
        return None
    return Path(location).expanduser()


def links_in_json(text: str, base: str) -> list[Link]:
    """Links of a PEP 691 page; empty if the text is no such page."""
    try:
        page: Any = json.loads(text)
        return [
            Link(
                str(entry["filename"]),
                urldefrag(_join(base, str(entry["url"]))).url,
                _digest(entry.get("hashes")),
            )
            for entry in page["files"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _digest(hashes: Any) -> str:
    return str(hashes.get("sha256", "")) if hashes else ""


def links_in_html(text: str, base: str) -> list[Link]:
    """Links of a PEP 503 page, or of any page of anchors."""
    parser = _Anchors()
    parser.feed(text)
    parser.close()
    with suppress(ValueError):
        base = _join(base, parser.base) if parser.base else base
    links: list[Link] = []
    for href in parser.hrefs:
        try:
            url, fragment = urldefrag(_join(base, href))
        except ValueError:  # one link that is no URL does not spoil the page
            continue
        name = unquote(urlsplit(url).path).rpartition("/")[2]
        links.append(Link(name, url, parse_qs(fragment).get("sha256", [""])[0]))
    return links


def links_in_folder(folder: Path) -> list[Link]:
    """The files lying in a folder."""
    return [Link(path.name, path.resolve().as_uri()) for path in sorted(folder.iterdir())]


def _join(base: str, href: str) -> str:
    """An absolute URL; keeps the base's credentials for a link to the same host."""
    url = urljoin(base, href)
    here, there = urlsplit(base), urlsplit(url)
    host = here.netloc.rpartition("@")[2]
    if "@" in here.netloc and there.netloc == host and there.scheme == here.scheme:
        return urlunsplit(there._replace(netloc=here.netloc))
    return url


class _Anchors(HTMLParser):
    """Collects the targets of ``<a href>`` and the page's ``<base href>``."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.hrefs: list[str] = []
        self.base = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if href and tag == "a":
            self.hrefs.append(href)
        elif href and tag == "base" and not self.base:
            self.base = href
