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


def test_dialogues_and_interfaces_are_in_the_scripts_of_their_languages(library):
    scripts = {
        **{"ru": "Ѐ-ӿ", "uk": "Ѐ-ӿ", "bg": "Ѐ-ӿ", "el": "Ͱ-Ͽ", "he": "֐-׿", "ar": "؀-ۿ"},
        **{"fa": "؀-ۿﭐ-ﻼ", "ur": "؀-ۿ", "hi": "ऀ-ॿ", "mr": "ऀ-ॿ", "bn": "ঀ-৿", "or": "଀-୿"},
        **{"ta": "஀-௿", "te": "ఀ-౿", "th": "฀-๿", "ko": "가-힣", "ja": "぀-ヿ一-鿿"},
        **{"zh-Hans": "一-鿿", "zh-Hant": "一-鿿"},
    }
    texts: dict[tuple[str, str], str] = {}
    for document in library.documents():
        if document.domain in ("dialogue", "interface") and document.language in scripts:
            words = re.sub(r"%\(\w+\)\w|</?\w+.*?>|&\w+;", "", document.text)
            key = (document.domain, document.language)
            texts[key] = texts.get(key, "") + words
    assert len(texts) > len(scripts)
    for (domain, language), text in texts.items():
        own = len(re.findall(f"[{scripts[language]}]", text))
        assert own > 0.6 * len(re.findall(r"\w", text)), (domain, language)


def test_no_work_is_in_another_language_than_it_says(library):
    """A file of English under another language's name has once been among them."""
    common = {"the", "is", "of", "and", "you", "what", "are", "to"}
    for document in library.documents():
        if document.domain == "dialogue" and document.language != "en":
            words = re.findall(r"\w+", document.text.lower())
            assert sum(word in common for word in words) < 0.12 * len(words), document.title


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


def test_no_two_documents_are_nearly_the_same(library):
    """By the eight-word pieces they share; what is compared has the rarest pieces in common."""
    pieces: list[set[int]] = []
    holders: dict[int, list[int]] = {}
    ids: dict[str, int] = {}  # of words, so that the pieces' hashes are the same in every process
    for number, document in enumerate(library.documents()):
        words = [
            ids.setdefault(word, len(ids)) for word in re.findall(r"\w+", document.text.lower())
        ]
        found = {hash(tuple(words[at : at + 8])) for at in range(max(1, len(words) - 7))}
        pieces.append(found)
        for piece in sorted(found)[:12]:
            holders.setdefault(piece, []).append(number)
    pairs = {
        (one, two) for those in holders.values() for one in those for two in those if one < two
    }
    near = [
        (library.documents()[one].title, library.documents()[two].title)
        for one, two in pairs
        if len(pieces[one] & pieces[two]) > 0.8 * min(len(pieces[one]), len(pieces[two])) > 16
    ]
    assert near == []


def test_no_paragraph_stands_again_and_again(library):
    """Notices and generated text would; ten lines of the standard library do three times."""
    counts = Counter(
        paragraph.strip()
        for document in library.documents()
        for paragraph in set(re.split(r"\n\n+", document.text))
        if len(paragraph.strip()) > 80
    )
    assert [text for text, n in counts.items() if n > 4] == []


def test_no_marks_of_machines_are_left(library):
    """Control characters, undecodable bytes, entities, line numbers, addresses of people."""
    for document in library.documents():
        assert not re.search("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufffd\ufeff]", document.text), (
            document.title
        )
        if document.domain in ("drama", "poetry", "essay", "scripture"):
            assert not re.search(r"&[a-z]+;|</?[a-z]+>|\[\[|^#+ ", document.text), document.title
            assert not re.search(r"\S {3,}\d+$", document.text, flags=re.M), document.title
        if document.domain not in ("code", "documentation"):
            assert not re.search(r"<\S+@\S+>", document.text), document.title


def test_chapters_of_scripture_stand_in_order_and_whole(library):
    books: dict[str, list[str]] = {}
    for document in library.documents():
        if document.domain == "scripture":
            books.setdefault(document.title, []).append(document.text)
    assert len(books) == 66
    assert list(books)[:2] == ["Genesis", "Exodus"]
    assert list(books)[-1] == "Revelation"
    genesis = "\n".join(books["Genesis"])
    assert genesis.startswith("Genesis 1\n\nIn the beginning God created the heavens")
    assert "and there was light.\nAnd God saw the light" in genesis
    places = [genesis.index(f"Genesis {chapter}\n") for chapter in range(1, 51)]
    assert places == sorted(places)
    assert not re.search(r"\b\d+:\d+\b", genesis)


def test_licence_texts_and_scanned_pictures_are_left_out(library):
    prose = [d.text for d in library.documents() if d.domain in ("drama", "poetry", "essay")]
    joined = "\n".join(prose)
    assert "project gutenberg" not in joined.lower()
    assert "ELECTRONIC VERSION" not in joined
    assert "P0RTRA1T" not in joined
    assert "VVe now" not in joined
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
