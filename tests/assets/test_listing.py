"""What an index's pages say, whoever wrote them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.assets.listing import Link, links_in_html, links_in_json, local_path, shown

BASE = "http://me:secret@host.invalid/simple/words/"


def test_an_html_page():
    page = (
        '<A HREF="../../f/words%2B1.whl#sha256=ab&amp;egg=x" data-requires-python="&gt;=3">w</A>'
        '<a>none</a><a href="">empty</a><a href="http://[broken/x.whl">x</a>'
        '<a href="http://other.invalid/words.whl">o</a>'
        '<a href="http://host.invalid/v.whl">v</a>'
    )
    assert links_in_html(page, BASE) == [
        Link("words+1.whl", "http://me:secret@host.invalid/f/words%2B1.whl", "ab"),
        Link("words.whl", "http://other.invalid/words.whl", ""),
        Link("v.whl", "http://me:secret@host.invalid/v.whl", ""),
    ], "the password goes to its own host and to no other"


def test_a_page_with_a_base():
    page = '<base href="/f/"><base href="/g/"><a href="w.whl">w</a>'
    assert links_in_html(page, "http://host.invalid/simple/words/") == [
        Link("w.whl", "http://host.invalid/f/w.whl")
    ]
    page = '<base href="http://[broken"><a href="w.whl">w</a>'
    assert [link.file for link in links_in_html(page, BASE)] == ["w.whl"]


def test_a_json_page():
    files = [
        {"filename": "w.whl", "url": "../../f/w.whl#frag", "hashes": {"sha256": "ab"}},
        {"filename": "v.whl", "url": "https://host.invalid/v.whl", "hashes": {}},
    ]
    assert links_in_json(json.dumps({"files": files}), BASE) == [
        Link("w.whl", "http://me:secret@host.invalid/f/w.whl", "ab"),
        Link("v.whl", "https://host.invalid/v.whl", ""),
    ]


@pytest.mark.parametrize("page", ["", "[]", "{}", '{"files": [1]}', '{"files": [{"url": "x"}]}'])
def test_what_is_no_json_page_has_no_links(page):
    assert links_in_json(page, BASE) == []


@given(st.text(alphabet="<a href=\"x/#[]:&;@'\n>", max_size=60))
def test_no_page_breaks_the_reader(page):
    for link in links_in_html(page, "http://host.invalid/"):
        assert isinstance(link.url, str)


def test_addresses_are_shown_without_their_secrets():
    assert shown("http://u:p@host.invalid:8/s/?token=t#f") == "http://host.invalid:8/s/"
    assert shown("/some/folder") == "/some/folder"
    for malformed in ("http://u:p#w@host.invalid/", "http://u:p/w@host.invalid", "http://u:p@[::1"):
        assert shown(malformed) == "an address that is no URL"


def test_what_is_a_path():
    assert local_path("/a/b c") == Path("/a/b c")
    assert local_path("file:///a/b%20c") == Path("/a/b c")
    assert local_path("~/x") == Path.home() / "x"
    assert local_path("http://host.invalid/x") is None
    assert local_path("ftp://host.invalid/x") is None
