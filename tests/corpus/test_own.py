"""One's own texts: what is read, how it is labelled, and what is refused."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
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
    assert (second.text, second.title) == ("plain", "mine.jsonl, line 2")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"text": 3}', "text"),
        (b"[1, 2]", "text"),
        (b'"text"', "text"),
        (b'{"title": "x"}', "text"),
        (b'{"text": "x", "title": 7}', "title"),
        (b'{"text": "x", "language": ["en"]}', "language"),
        (b'{"text": ', "no JSON"),
        (b"hello", "no JSON"),
        (b'{"text": "\xe9"}', "UTF-8"),
        (b"[" * 100_000, "no JSON"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_bad_line_is_named_by_file_and_number(tmp_path, line, words, inside):
    path = tmp_path / "bad.jsonl"
    # Enough of them that the bad one lies beyond the first block that is read.
    path.write_bytes(b'{"text": "fine\xe2\x80\xa8line"}\n\n' * 1000 + line + b"\n")
    with pytest.raises(FormatError, match=rf"bad\.jsonl, line 2001 .*{words}") as refused:
        load_corpus(str(tmp_path if inside else path))
    assert "\n" not in str(refused.value)


def test_a_text_file_in_another_encoding_is_refused_alone(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("été".encode("latin-1"))
    with pytest.raises(FormatError, match="UTF-8"):
        load_corpus(str(path))


@pytest.mark.parametrize("name", ["empty.txt", "empty.jsonl", "folder"])
@pytest.mark.parametrize("content", ["", " \n"])
def test_nothing_to_read_is_refused_by_name(tmp_path, name, content):
    path = tmp_path / name
    if "." in name:
        path.write_text(content)
    else:
        path.mkdir()
        (path / "blank.txt").write_text(content)
    with pytest.raises(DataError, match=name):
        load_corpus(str(path))


def test_an_empty_folder_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path.name} has no text"):
        load_corpus(str(tmp_path))


def test_a_byte_order_mark_before_json_is_no_text(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "x"}\r\n{"text": "y"}\r\n')
    assert [d.text for d in load_corpus(str(tmp_path / "a.jsonl")).documents()] == ["x", "y"]


def test_documents_come_by_path_whatever_the_disk_says(tmp_path):
    names = [f"{folder}/{file}.txt" for folder in "bca" for file in ("z", "y", "10", "9")]
    random.Random(0).shuffle(names)
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    found = [document.title for document in load_corpus(str(tmp_path)).documents()]
    assert found == sorted(names)
    again = load_corpus(str(tmp_path))
    assert [document.title for document in again.documents()] == found


def test_labels_do_not_depend_on_where_the_folder_lies(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    for place in ("here", "there"):
        folder = tmp_path / place / "mine"
        folder.mkdir(parents=True)
        (folder / "a.jsonl").write_text('{"text": "x"}\n{"text": "y"}\n')
        (folder / "b.txt").write_text("z")
        parquet.write_table(pyarrow.table({"text": ["w"]}), folder / "c.parquet")
    here, there = (load_corpus(str(tmp_path / place / "mine")) for place in ("here", "there"))
    assert here.documents() == there.documents()
    assert [d.title for d in here.documents()] == [
        *("a.jsonl, line 1", "a.jsonl, line 2", "b.txt", "c.parquet, row 0"),
    ]
    assert here.digest == there.digest


def test_parquet_keeps_its_labels(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    path = tmp_path / "mine.parquet"
    table = {"text": ["uno", None, "dos", "x" * 9000], "language": ["es", "es", None, "en"]}
    parquet.write_table(pyarrow.table({**table, "score": [1, 2, 3, 4]}), path)
    found = load_corpus(str(path)).documents()
    assert [(d.text[:3], d.title, d.language) for d in found] == [
        ("uno", "mine.parquet, row 0", "es"),
        ("dos", "mine.parquet, row 2", "und"),
        ("xxx", "mine.parquet, row 3", "en"),
        ("xxx", "mine.parquet, row 3", "en"),
    ] + [("xxx", "mine.parquet, row 3", "en")] * (len(found) - 4)
    assert "".join(d.text for d in found[2:]) == "x" * 9000
    parquet.write_table(pyarrow.table({"body": ["uno"]}), path)
    with pytest.raises(DataError, match=r"mine\.parquet has no column text"):
        load_corpus(str(path))
    parquet.write_table(pyarrow.table({"text": [1, 2]}), path)
    with pytest.raises(FormatError, match=r"mine\.parquet, row 0"):
        load_corpus(str(path))
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(FormatError, match=r"mine\.parquet is no readable Parquet"):
        load_corpus(str(path))


def test_a_long_text_keeps_its_labels_in_every_passage(tmp_path):
    row = {"text": "some words here. " * 2000, "title": "T", "domain": "d", "topic": "t"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    found = load_corpus(str(tmp_path / "a.jsonl")).documents()
    assert len(found) == 5
    assert {(d.title, d.domain, d.topic) for d in found} == {("T", "d", "t")}
    assert " ".join(d.text for d in found).split() == row["text"].split()


def test_a_summary_counts_what_is_there(tmp_path):
    rows = [
        {"text": "é", "domain": "b", "title": "1", "language": "fr", "licence": "CC0"},
        {"text": "a", "domain": "b", "title": "2", "language": "en", "licence": "CC0"},
        {"text": "b", "domain": "b", "title": "1", "language": "en"},
        {"text": "c", "domain": "a", "title": "1"},
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    first, second = load_corpus(str(tmp_path / "x.jsonl")).summary()
    assert first["domain"] == "a"
    assert second == {
        **{"domain": "b", "documents": 3, "works": 2, "bytes": 4, "languages": 2},
        "licence": "CC0",
    }


@pytest.mark.parametrize("name", ["librery", "no/such/file.txt", ""])
def test_unknown_names_list_the_known(tmp_path, name):
    with pytest.raises(UnknownName, match="library") as refused:
        load_corpus(name, Workspace(tmp_path))
    assert repr(name) in str(refused.value)
    assert "path that exists" in str(refused.value)


def test_hub_data_set_without_a_hub_is_one_sentence():
    """Without the package, and offline with it: never a traceback of another library."""
    from interp.errors import ConfigError

    with pytest.raises((ConfigError, AssetError), match="datasets|data set"):
        load_corpus("hf:nobody/nothing")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_data_set_is_streamed_with_its_labels(tmp_path, kind):
    """The loader of data sets reads a folder as it reads the hub."""
    rows = [
        {"text": f"Verse {number} of a long poem about the sea.", "domain": "poem", "stars": number}
        for number in range(30)
    ]
    folder = tmp_path / "verses"
    folder.mkdir()
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), folder / "train.parquet")
    else:
        lines = (json.dumps(row) + "\n" for row in rows)
        (folder / "train.jsonl").write_text("".join(lines))
    corpus = load_corpus(f"hf:{folder}")
    documents = corpus.documents()
    assert [document.text for document in documents] == [row["text"] for row in rows]
    assert {document.domain for document in documents} == {"poem"}
    assert load_corpus(f"hf:{folder}").digest == corpus.digest


def test_a_data_set_without_text_is_refused(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"body": "x"}\n')
    with pytest.raises(DataError, match="no column text"):
        load_corpus(f"hf:{tmp_path}")
