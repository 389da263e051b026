"""The packaged corpora as they really are."""

import re
from collections import Counter

import pytest

from interp.corpus import fetch_corpus, known_corpora, load_corpus, split_heldout
from interp.errors import AssetError, FormatError
from interp.files import read_json
from interp.workspace import Workspace


@pytest.fixture(scope="module")
def library(real_workspace):
    return load_corpus("library", real_workspace)


def test_it_is_large_and_varied(library):
    summary = {row["domain"]: row for row in library.summary()}
    assert sum(row["bytes"] for row in summary.values()) >= 12_000_000
    assert len(summary) >= 6
    assert summary["dialogue"]["languages"] >= 20
    assert summary["interface"]["languages"] >= 20


def test_every_document_is_labelled_and_says_something(library):
    for document in library.documents():
        assert document.text.strip()
        assert document.title
        assert document.domain
        assert document.language
        assert document.licence
        assert len(document.text.encode()) <= 8000


def test_no_text_stands_twice(library):
    repeated = [text for text, n in Counter(d.text for d in library.documents()).items() if n > 1]
    assert repeated == []


def test_licence_texts_and_scanned_pictures_are_left_out(library):
    prose = [d.text for d in library.documents() if d.domain in ("drama", "poetry", "essay")]
    joined = "\n".join(prose)
    assert "project gutenberg" not in joined.lower()
    assert "ELECTRONIC VERSION" not in joined
    assert "P0RTRA1T" not in joined
    assert "To be, or not to be" in joined
    assert "Of Mans First Disobedience" in joined


def test_every_domain_has_text_on_both_sides_of_the_split(library):
    documents = library.documents()
    held = split_heldout(documents)
    for domain in {document.domain for document in documents}:
        sides = {bool(h) for d, h in zip(documents, held, strict=True) if d.domain == domain}
        assert sides == {True, False}, domain
    out = {(d.domain, d.title) for d, h in zip(documents, held, strict=True) if h}
    kept = {(d.domain, d.title) for d, h in zip(documents, held, strict=True) if not h}
    assert not out & kept


def test_building_again_gives_the_same_bytes(library, real_workspace, tmp_path):
    other = Workspace(tmp_path)
    other.root.joinpath("assets").symlink_to(real_workspace.root / "assets")
    again = fetch_corpus("library", other)
    assert again.digest == library.digest
    record = read_json(other.corpus("library") / "corpus.json")
    assert record["sha256"] == library.digest
    for source in record["sources"].values():
        assert source["licence"]
    assert ("library", True) in [(name, ready) for name, _, ready in known_corpora(other)]


def test_shakespeare_is_part_of_it_and_needs_no_further_download(library, real_workspace):
    plays = load_corpus("shakespeare", real_workspace)
    texts = {document.text for document in library.documents()}
    assert {document.domain for document in plays.documents()} == {"drama", "poetry"}
    assert all(document.text in texts for document in plays.documents())


def test_a_changed_file_is_told(library, real_workspace, tmp_path):
    other = Workspace(tmp_path)
    other.root.joinpath("assets").symlink_to(real_workspace.root / "assets")
    fetch_corpus("shakespeare", other)
    path = other.corpus("shakespeare") / "documents.jsonl"
    path.write_bytes(path.read_bytes().replace(b"Hamlet", b"Hamlot", 1))
    with pytest.raises(FormatError, match=re.escape(str(path))):
        load_corpus("shakespeare", other)


def test_not_fetched_names_the_command(tmp_path):
    with pytest.raises(AssetError, match="interp corpora get library"):
        load_corpus("library", Workspace(tmp_path))
