"""One's own texts: what is read, how it is labelled, and what is refused."""

import json

import pytest

from interp.corpus import load_corpus
from interp.errors import AssetError, DataError, FormatError, UnknownName
from interp.workspace import Workspace


def test_a_text_file_is_one_work(tmp_path):
    path = tmp_path / "tales" / "one.txt"
    path.parent.mkdir()
    path.write_bytes("\ufeffOnce upon a time.\r\nThe end.   \r\n".encode())
    (document,) = load_corpus(str(path)).documents()
    assert document.text == "Once upon a time.\nThe end."
    assert (document.title, document.domain, document.language) == ("one.txt", "tales", "und")


def test_a_folder_gives_domains_and_leaves_out_what_is_no_text(tmp_path):
    for name, data in {
        "verse/a.txt": b"a rose",
        "prose/b.md": b"a stone",
        "c.txt": b"loose",
        "picture.png": b"\x89PNG\0\0",
        "latin.txt": "é".encode("latin-1"),
        ".hidden/d.txt": b"secret",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    corpus = load_corpus(str(tmp_path))
    found = [(d.title, d.domain, d.text) for d in corpus.documents()]
    assert found == [
        ("c.txt", tmp_path.name, "loose"),
        ("prose/b.md", "prose", "a stone"),
        ("verse/a.txt", "verse", "a rose"),
    ]
    assert load_corpus(str(tmp_path)).digest == corpus.digest
    (tmp_path / "c.txt").write_text("changed")
    assert load_corpus(str(tmp_path)).digest != corpus.digest


def test_json_lines_keep_their_labels(tmp_path):
    path = tmp_path / "mine.jsonl"
    rows = [
        {"text": "uno\u2028dos", "title": "T", "domain": "d", "language": "es", "licence": "CC0"},
        {"text": "plain", "score": 3},
        {"text": "  "},
    ]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), "utf-8")
    first, second = load_corpus(str(path)).documents()
    assert (first.text, first.title, first.language) == ("uno\u2028dos", "T", "es")
    assert (second.text, second.title) == ("plain", f"{path}, line 2")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": 3}', "line 2"),
        ("[1, 2]", "line 2"),
        ('{"text": "x", "title": 7}', "title"),
        ('{"text": ', "bad.jsonl"),
        ("[" * 100_000, "bad.jsonl"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, words):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(FormatError, match=words):
        load_corpus(str(path))


def test_a_text_file_in_another_encoding_is_refused_alone(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("été".encode("latin-1"))
    with pytest.raises(FormatError, match="UTF-8"):
        load_corpus(str(path))


@pytest.mark.parametrize("name", ["empty.txt", "empty.jsonl", "folder"])
def test_nothing_to_read_is_refused_by_name(tmp_path, name):
    path = tmp_path / name
    path.mkdir() if "." not in name else path.write_text(" \n")
    with pytest.raises(DataError, match=name):
        load_corpus(str(path))


def test_unknown_names_list_the_known(tmp_path):
    with pytest.raises(UnknownName, match="library"):
        load_corpus("librery", Workspace(tmp_path))


def test_hub_data_set_without_a_hub_is_one_sentence():
    """Without the package, and offline with it: never a traceback of another library."""
    from interp.errors import ConfigError

    with pytest.raises((ConfigError, AssetError), match="datasets|data set"):
        load_corpus("hf:nobody/nothing")
