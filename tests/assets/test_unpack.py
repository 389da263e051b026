"""Archives are data: nothing leaves the folder, nothing is executed, damage is told."""

import io
import tarfile
import zipfile

import pytest

from interp.assets import unpack as module
from interp.assets.unpack import unpack
from interp.errors import AssetError
from tests.assets.conftest import sdist, wheel


def everything(_: str) -> bool:
    return True


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


UNSAFE = {
    "absolute": member("/etc/x"),
    "upwards": member("a/../../x"),
    "symlink": member("a/link", tarfile.SYMTYPE, "/etc/passwd"),
    "hardlink": member("a/link", tarfile.LNKTYPE, "a/b"),
    "device": member("a/null", tarfile.CHRTYPE),
    "pipe": member("a/fifo", tarfile.FIFOTYPE),
    "backslash": member("a\\..\\x"),
    "drive": member("C:x"),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_members_end_it(tmp_path, name):
    archive = tmp_path / "bad.tar.gz"
    archive.write_bytes(sdist(UNSAFE[name]))
    with pytest.raises(AssetError, match="unsafe member"):
        unpack(archive, tmp_path / "out" / "deep", everything)
    assert [p for p in tmp_path.rglob("*") if p.is_file() or p.is_symlink()] == [archive]


@pytest.mark.parametrize("name", ["/x", "../x", "a/../../x", "C:\\x"])
def test_unsafe_names_in_a_wheel(tmp_path, name):
    archive = tmp_path / "bad.whl"
    archive.write_bytes(wheel(**{name: "x"}))
    with pytest.raises(AssetError, match="unsafe member"):
        unpack(archive, tmp_path / "out" / "deep", everything)


def test_a_symlink_in_a_wheel(tmp_path):
    data, info = io.BytesIO(), zipfile.ZipInfo("a/link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    (tmp_path / "bad.whl").write_bytes(data.getvalue())
    with pytest.raises(AssetError, match="unsafe member"):
        unpack(tmp_path / "bad.whl", tmp_path / "out", everything)


def test_only_what_is_wanted_and_without_permission_to_run(tmp_path):
    setup = member("pkg/setup.py")
    setup.mode = 0o777
    (tmp_path / "a.tar.gz").write_bytes(sdist(setup, member("pkg/data.txt")))
    names = unpack(tmp_path / "a.tar.gz", tmp_path / "out", lambda name: name.endswith(".txt"))
    assert names == ["pkg/data.txt"]
    unpack(tmp_path / "a.tar.gz", tmp_path / "all", everything)
    assert not (tmp_path / "all" / "pkg" / "setup.py").stat().st_mode & 0o111


@pytest.mark.parametrize("data", [b"", b"no archive", wheel(a="x" * 999)[:-30]])
def test_damage_is_told(tmp_path, data):
    (tmp_path / "a.whl").write_bytes(data)
    with pytest.raises(AssetError, match=r"a\.whl"):
        unpack(tmp_path / "a.whl", tmp_path / "out", everything)


def test_a_flipped_byte_is_told(tmp_path):
    data = bytearray(wheel(a="x" * 999))
    data[40] ^= 0xFF
    (tmp_path / "a.whl").write_bytes(bytes(data))
    with pytest.raises(AssetError, match=r"a\.whl"):
        unpack(tmp_path / "a.whl", tmp_path / "out", everything)


def test_a_bomb_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 1000)
    (tmp_path / "a.whl").write_bytes(wheel(a="x" * 600, b="x" * 600))
    with pytest.raises(AssetError, match="unpacks to more"):
        unpack(tmp_path / "a.whl", tmp_path / "out", everything)


def test_none_of_the_files_wanted(tmp_path):
    (tmp_path / "a.whl").write_bytes(wheel(a="x"))
    with pytest.raises(AssetError, match="none of the files"):
        unpack(tmp_path / "a.whl", tmp_path / "out", lambda _: False)


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_no_flipped_byte_gets_past_as_another_error(tmp_path, kind):
    """Each damaged copy is refused in a sentence, or gives the very bytes."""
    whole = wheel(a="some text " * 9) if kind == "wheel" else sdist(member("a"), text=b"text " * 20)
    refused = 0
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 0x41
        (tmp_path / "archive").write_bytes(data)
        try:
            unpack(tmp_path / "archive", tmp_path / f"out{place}", everything)
        except AssetError:
            refused += 1
    assert refused > len(whole) // 2


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a")])
def test_members_in_each_others_way(tmp_path, names):
    (tmp_path / "a.tar").write_bytes(sdist(*map(member, names)))
    with pytest.raises(AssetError, match=r"a\.tar"):
        unpack(tmp_path / "a.tar", tmp_path / "out", everything)


def test_a_name_no_disk_takes(tmp_path):
    (tmp_path / "a.whl").write_bytes(wheel(**{"n" * 3000: "x"}))
    with pytest.raises(AssetError, match=r"a\.whl"):
        unpack(tmp_path / "a.whl", tmp_path / "out", everything)
