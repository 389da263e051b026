"""A manifest that is damaged, foreign or newer is refused by name; one unfinished says so."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from interp.errors import FormatError, InterpError, StoreError, StoreIncomplete
from interp.files import read_json, write_json
from interp.store import ActivationStore, Manifest, StoreWriter, verify
from tests.stores import make_store

SITE = "resid_post.0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> ActivationStore:
    return make_store(tmp_path_factory.mktemp("whole") / "toy")


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    shutil.copytree(whole.path, tmp_path / "toy")
    return tmp_path / "toy"


def edit(folder: Path, change) -> None:
    value = read_json(folder / "manifest.json")
    change(value)
    write_json(folder / "manifest.json", value)


def test_what_was_written_is_read(folder, whole) -> None:
    text = (folder / "manifest.json").read_text()
    Manifest.read(folder).write(folder)
    assert (folder / "manifest.json").read_text() == text
    assert ActivationStore.open(folder).digest == whole.digest


@pytest.mark.parametrize("text", ["", "{", "[]", '"text"', "\x00\x01", "{'rows': 3}"])
def test_what_is_no_json_object_is_refused(folder, text) -> None:
    (folder / "manifest.json").write_text(text)
    for read in (ActivationStore.open, verify):
        with pytest.raises(FormatError, match=r"manifest.json .*(no JSON|not readable).*; make it"):
            read(folder)


CHANGES = {
    "unknown key": lambda m: m.update(colour="red"),
    "unknown key of a site": lambda m: m["sites"][0].update(colour="red"),
    "unknown key of a shard": lambda m: m["shards"][0].update(colour="red"),
    "missing key": lambda m: m.pop("sites"),
    "state": lambda m: m.update(state="melted"),
    "sum of rows": lambda m: m.update(rows=601),
    "rows of a shard": lambda m: m["shards"][0].update(rows=-256),
    "a huge shard": lambda m: m["shards"][0].update(rows=1 << 60),
    "text for rows": lambda m: m["shards"][0].update(rows="256"),
    "a path": lambda m: m["shards"][0].update(file="../../secret.h5"),
    "order of shards": lambda m: m["shards"].reverse(),
    "no checksum": lambda m: m["shards"][0].update(sha256=""),
    "a site that is a path": lambda m: m["sites"][0].update(name="../token"),
    "a site without width": lambda m: m["sites"][0].update(width=0),
    "a site of huge width": lambda m: m["sites"][0].update(width=1 << 40),
    "a site without type": lambda m: m.update(dtypes={}),
    "unknown type": lambda m: m.update(dtypes={SITE: "float8"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_malformed_manifest_is_refused(folder, change) -> None:
    edit(folder, CHANGES[change])
    path = re.escape(str(folder / "manifest.json"))
    for read in (ActivationStore.open, verify):
        with pytest.raises(FormatError, match=rf"(?s)^{path} is malformed \(.*\); capture again$"):
            read(folder)


def test_a_newer_or_foreign_manifest_is_refused(folder) -> None:
    for version in (2, None, "1"):
        edit(folder, lambda m, v=version: m.update(version=v))
        with pytest.raises(FormatError, match=f"version {version}, this interp reads 1; update"):
            ActivationStore.open(folder)
    edit(folder, lambda m: m.update(format="something else"))
    with pytest.raises(FormatError, match="no manifest of an activation store; name another"):
        ActivationStore.open(folder)


WRONG = (None, -1, 2.5, "text", [1], {"a": 1}, 10**30)


def leaves(value: object, path: tuple = ()) -> list[tuple]:
    """Every place in a manifest."""
    inside = value.items() if isinstance(value, dict) else ()
    inside = enumerate(value) if isinstance(value, list) else inside
    below = [place for key, part in inside for place in leaves(part, (*path, key))]
    return [*([path] if path else []), *below]


def put_wrong_values_everywhere(folder: Path) -> None:
    """Any value of the wrong type gives one line of ours, or does no harm."""
    good = (folder / "manifest.json").read_text()
    for path in leaves(json.loads(good)):
        for wrong in WRONG:
            value = json.loads(good)
            holder = value
            for key in path[:-1]:
                holder = holder[key]
            holder[path[-1]] = as_float(holder[path[-1]]) if wrong == 2.5 else wrong
            (folder / "manifest.json").write_text(json.dumps(value))
            try:
                verify(folder)
                store = ActivationStore.open(folder)
                assert store.read(SITE, 0, 3).shape == (3, 16)
                assert len(store.rows_of("train")) == 400
                assert len(store.vocabulary) == 10
            except InterpError as error:
                if "\n" in str(error):
                    raise AssertionError(f"{path} = {wrong!r} gave lines: {error}") from error
            except Exception as error:
                raise AssertionError(f"{path} = {wrong!r} gave {error!r}") from error


def as_float(right: Any) -> float:
    """A number that equals the right one, where that is a number."""
    return float(right) if isinstance(right, int) else 2.5


def test_a_value_of_the_wrong_type_anywhere_never_escapes_as_another_error(folder) -> None:
    # In a process of its own: the checks of types that tests run under would hide what users see.
    code = (
        "import pathlib, sys; from tests.store import test_manifest; "
        "test_manifest.put_wrong_values_everywhere(pathlib.Path(sys.argv[1]))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_no_store_is_refused(tmp_path) -> None:
    for read in (ActivationStore.open, verify):
        with pytest.raises(StoreError, match=r"nowhere is no activation store; `interp capture`"):
            read(tmp_path / "nowhere")


def unsealed(folder: Path) -> None:
    """What a capture leaves that was killed in its second shard."""
    entries = read_json(folder / "manifest.json")["shards"]
    write_json(folder / "shard-00000.json", entries[0])
    (folder / "shard-00001.h5").rename(folder / "shard-00001.h5.partial")
    (folder / "shard-00002.h5").unlink()

    def change(manifest: dict) -> None:
        manifest["state"] = "writing"
        for entry in manifest["shards"]:
            entry["sha256"] = ""

    edit(folder, change)


def test_an_unfinished_store_is_refused_and_says_how_far_it_is(folder) -> None:
    unsealed(folder)
    message = r"has 256 of 600 rows; run the same `interp capture` again: it continues$"
    with pytest.raises(StoreIncomplete, match=message):
        ActivationStore.open(folder)
    assert len(verify(folder)) == 1
    assert re.search(message, verify(folder)[0])


def writer_of(folder: Path, whole: ActivationStore, **changes) -> StoreWriter:
    value = read_json(whole.path / "manifest.json") | {"state": "writing"} | changes
    temporary = folder.parent / "asked"
    temporary.mkdir(exist_ok=True)
    write_json(temporary / "manifest.json", value)
    return StoreWriter(folder, Manifest.read(temporary), whole.documents, whole.vocabulary)


def test_a_writer_continues_only_what_was_asked_for(folder, whole) -> None:
    with pytest.raises(StoreError, match="is sealed; choose another --out or delete it"):
        writer_of(folder, whole)
    unsealed(folder)
    for other in ({"request": "other"}, {"plan": "other"}):
        with pytest.raises(StoreError, match="holds another capture, with other settings; choose"):
            writer_of(folder, whole, **other)
    with writer_of(folder, whole) as writer:
        assert writer.published == {0}
        assert not list(folder.glob("*.partial"))
        with pytest.raises(StoreError, match=r"another capture is writing .*; wait for it"):
            writer_of(folder, whole)
        with pytest.raises(StoreError, match="lacks 2 of 3 shards; not sealed"):
            writer.seal()


def test_a_shard_counts_only_if_its_bytes_are_those_of_its_record(folder, whole) -> None:
    unsealed(folder)
    path = folder / "shard-00000.h5"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with writer_of(folder, whole) as writer:
        assert writer.published == frozenset()


def test_a_folder_of_other_files_is_left_alone(tmp_path, whole) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "cat.png").write_bytes(b"meow")
    with pytest.raises(StoreError, match="holds files that are no store; choose another --out"):
        writer_of(folder, whole)
    assert (folder / "cat.png").read_bytes() == b"meow"
