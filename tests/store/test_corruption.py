"""A damaged or hostile store gives one clear sentence, never wrong rows."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from interp.errors import StoreCorrupt
from interp.files import read_json, sha256, write_json
from interp.store import ActivationStore, verify
from tests.stores import make_store

SITE, ROWS, WIDTH = "resid_post.0", 600, 16
KEY = f"activations/{SITE}"
DAMAGED = "shard-00001.h5"
REMEDY = r"(delete that file and )?run the same `interp capture` again: it recaptures just what"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> ActivationStore:
    return make_store(tmp_path_factory.mktemp("whole") / "toy", rows=ROWS)


@pytest.fixture
def store(whole, tmp_path) -> ActivationStore:
    """A copy to be damaged, opened while it was whole."""
    shutil.copytree(whole.path, tmp_path / "toy")
    return ActivationStore.open(tmp_path / "toy")


def truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def in_place_of(name: str, make: Callable[[h5py.File, np.ndarray], None]) -> Callable:
    """A damage that makes something else in place of a dataset."""

    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            values = file[name][()]
            del file[name]
            make(file, values)

    return damage


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def external(file: h5py.File, values: np.ndarray) -> None:
    raw = Path(file.filename).with_suffix(".raw")
    raw.write_bytes(values.tobytes())
    file.create_dataset(
        KEY, values.shape, values.dtype, external=[(str(raw), 0, raw.stat().st_size)]
    )


def virtual(file: h5py.File, values: np.ndarray) -> None:
    file["elsewhere"] = values
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = h5py.VirtualSource(file["elsewhere"])
    file.create_virtual_dataset(KEY, layout)


def linked(file: h5py.File, values: np.ndarray) -> None:
    file["elsewhere"] = values
    file[KEY] = h5py.SoftLink("/elsewhere")


def linked_outside(file: h5py.File, values: np.ndarray) -> None:
    file[KEY] = h5py.ExternalLink("shard-00000.h5", KEY)


def linked_group(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["activations"]
        file["activations"] = h5py.ExternalLink("shard-00000.h5", "activations")


STRUCTURE: dict[str, Callable] = {
    "dataset missing": in_place_of(KEY, lambda file, values: None),
    "column missing": in_place_of("token", lambda file, values: None),
    "a group": in_place_of(KEY, lambda file, values: file.create_group(KEY)),
    "fewer rows": in_place_of(KEY, lambda f, v: f.create_dataset(KEY, data=v[:-1])),
    "narrower": in_place_of(KEY, lambda f, v: f.create_dataset(KEY, data=v[:, :-1])),
    "another type": in_place_of(KEY, lambda f, v: f.create_dataset(KEY, data=v.view(np.uint16))),
    "column of another type": in_place_of(
        "position", lambda f, v: f.create_dataset("position", data=v.astype(np.int64))
    ),
    "never written": in_place_of(KEY, lambda f, v: f.create_dataset(KEY, v.shape, v.dtype)),
    "chunks never written": in_place_of(
        KEY, lambda f, v: f.create_dataset(KEY, v.shape, v.dtype, chunks=(100, WIDTH))
    ),
    "half its chunks": in_place_of(
        KEY,
        lambda f, v: f.create_dataset(KEY, v.shape, v.dtype, chunks=(100, WIDTH)).write_direct(
            v, np.s_[:100], np.s_[:100]
        ),
    ),
    "split rows": in_place_of(KEY, lambda f, v: f.create_dataset(KEY, data=v, chunks=(256, 4))),
    "compressed": in_place_of(KEY, lambda f, v: f.create_dataset(KEY, data=v, compression="gzip")),
    "shuffled": in_place_of(KEY, lambda f, v: f.create_dataset(KEY, data=v, shuffle=True)),
    "external": in_place_of(KEY, external),
    "virtual": in_place_of(KEY, virtual),
    "link": in_place_of(KEY, linked),
    "link outside": in_place_of(KEY, linked_outside),
    "link of the group": linked_group,
}
BYTES: dict[str, Callable] = {
    "empty": lambda path: truncate(path, 0),
    "only a beginning": lambda path: truncate(path, 700),
    "half": lambda path: truncate(path, path.stat().st_size // 2),
    "all but a byte": lambda path: truncate(path, path.stat().st_size - 1),
    "text": lambda path: path.write_text("activations\n" * 2000),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "another shard": lambda path: shutil.copy(path.with_name("shard-00002.h5"), path),
    "a folder": replace_by_folder,
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", STRUCTURE | BYTES)
@pytest.mark.parametrize("known", [False, True], ids=["fresh", "read before"])
def test_a_damaged_shard_is_named_and_the_others_are_still_read(store, damage, known) -> None:
    if known:
        before = store.read(SITE, 0, ROWS)
    (STRUCTURE | BYTES)[damage](store.path / DAMAGED)
    named = rf"^shard {re.escape(str(store.path / DAMAGED))}[^\n]*; {REMEDY}[^\n]*$"
    for read in (
        lambda: store.read(SITE, 0, ROWS),
        lambda: store.take(SITE, [300]),
        lambda: list(store.blocks(SITE)),
        lambda: ActivationStore.open(store.path).tokens,
        lambda: ActivationStore.open(store.path).rows_of("train"),
    ):
        with pytest.raises(StoreCorrupt, match=named):
            read()
    assert store.read(SITE, 0, 256).shape == (256, WIDTH)
    if known:
        assert np.array_equal(store.read(SITE, 512, ROWS), before[512:])
    problems = verify(store.path)
    assert len(problems) == 1
    assert re.search(rf"{DAMAGED}.*; {REMEDY}", problems[0])


@pytest.mark.parametrize("damage", STRUCTURE)
def test_verify_looks_behind_a_checksum_that_was_made_to_match(store, damage) -> None:
    STRUCTURE[damage](store.path / DAMAGED)
    with_checksums(store.path)
    problems = verify(store.path)
    assert len(problems) == 1
    assert re.search(rf"{DAMAGED}: dataset .*; {REMEDY}", problems[0])


def with_checksums(folder: Path) -> None:
    """Make the manifest agree with the files, as someone with bad intent would."""
    manifest = read_json(folder / "manifest.json")
    for entry in manifest["shards"]:
        entry["sha256"] = sha256(folder / entry["file"])
    manifest["documents"] = sha256(folder / "documents.jsonl")
    write_json(folder / "manifest.json", manifest)


def test_a_flipped_bit_changes_one_number_at_most_and_is_always_found(tmp_path) -> None:
    store = make_store(tmp_path / "toy", rows=40, sites={SITE: 3}, dtype="float32")
    path = store.path / "shard-00000.h5"
    good, values, tokens = path.read_bytes(), store.read(SITE, 0, 40), store.tokens
    refused = 0
    for place in np.random.default_rng(0).permutation(len(good))[:400]:
        bad = bytearray(good)
        bad[place] ^= 1 << int(place % 8)
        path.write_bytes(bad)
        try:
            store = ActivationStore.open(store.path)
            assert (store.read(SITE, 0, 40).view(np.uint32) != values.view(np.uint32)).sum() <= 1
            assert (store.tokens != tokens).sum() <= 1
        except StoreCorrupt:
            refused += 1
        assert verify(store.path) == [
            "shard-00000.h5 differs from its checksum; delete that file and run the same "
            "`interp capture` again: it recaptures just what is missing"
        ]
    assert refused > 40


def test_verify_names_every_damaged_file_and_a_whole_store_has_no_problem(whole, store) -> None:
    assert verify(whole.path) == []
    (store.path / "shard-00000.h5").unlink()
    truncate(store.path / "shard-00002.h5", 5000)
    (store.path / "documents.jsonl").write_text("{}\n")
    (store.path / "vocabulary.json").unlink()
    problems = verify(store.path)
    assert [re.findall(r"^\S+ (?:is missing|differs)", problem) for problem in problems] == [
        ["shard-00000.h5 is missing"],
        ["shard-00002.h5 differs"],
        ["documents.jsonl differs"],
        ["vocabulary.json is missing"],
    ]


def test_verify_finds_numbers_and_tables_that_do_not_fit(store) -> None:
    path = store.path / "shard-00001.h5"
    with h5py.File(path, "r+") as file:
        file[KEY][7, 3] = np.inf
    with_checksums(store.path)
    assert verify(store.path) == [f"site {SITE} holds NaN or infinity, first in row {256 + 7}"]
    with h5py.File(path, "r+") as file:
        file[KEY][7, 3] = 0
        file["document"][0] = 5
    with_checksums(store.path)
    assert "does not match the rows' documents" in verify(store.path)[0]
    lines = (store.path / "documents.jsonl").read_text().splitlines()
    (store.path / "documents.jsonl").write_text("\n".join(lines[1:]) + "\n")
    with_checksums(store.path)
    assert "overlap or leave gaps" in verify(store.path)[0]
    with pytest.raises(StoreCorrupt, match="names documents it does not list; capture it again"):
        ActivationStore.open(store.path).rows_of("train")


@pytest.mark.parametrize("name", ["documents.jsonl", "vocabulary.json"])
@pytest.mark.parametrize("gone", [True, False])
def test_damaged_tables_are_refused(store, name, gone) -> None:
    path = store.path / name
    if gone:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"a", b"b", 1))
    with pytest.raises(StoreCorrupt, match=rf"{name} is missing or not.*; {REMEDY}"):
        store.documents if name == "documents.jsonl" else store.vocabulary  # noqa: B018


@pytest.mark.parametrize("line", ["{", "3", "[1]", "{}", '{"title": 3}'])
def test_a_malformed_document_behind_a_matching_checksum_is_refused(store, line) -> None:
    (store.path / "documents.jsonl").write_text(line + "\n")
    with_checksums(store.path)
    with pytest.raises(StoreCorrupt, match=rf"(?s)documents.jsonl is malformed .*; {REMEDY}"):
        ActivationStore.open(store.path).rows_of("train")
    assert len(verify(store.path)) == 1
