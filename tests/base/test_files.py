import errno
import os

import pytest

from interp.errors import ConfigError, FormatError, InterpError, ResourceError, UnknownName
from interp.files import check_writable, read_json, replacing, resource_error, sha256, write_json
from interp.provenance import Provenance, commit, versions
from interp.workspace import Workspace, safe


def test_an_interrupted_write_leaves_the_old_bytes(tmp_path):
    path = tmp_path / "deep" / "a.json"
    write_json(path, {"a": 1})

    def interrupted() -> None:
        with replacing(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert read_json(path) == {"a": 1}


def test_a_full_disk_names_the_remedy(tmp_path):
    path = tmp_path / "a.bin"
    with pytest.raises(ResourceError, match="no space left.*--workspace"), replacing(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not path.exists()


def test_a_read_only_folder_names_the_remedy(tmp_path):
    error = resource_error(PermissionError(errno.EACCES, "x"), tmp_path / "a")
    assert isinstance(error, ResourceError)
    assert "INTERP_WORKSPACE" in str(error)
    other = OSError(errno.EIO, "x")
    assert resource_error(other, tmp_path) is other


def test_what_cannot_be_written_is_known_beforehand(tmp_path):
    path = tmp_path / "deep" / "a.json"
    check_writable(path)
    assert list(tmp_path.rglob("*")) == [path.parent]
    write_json(path, {"a": 1})
    check_writable(path)
    assert read_json(path) == {"a": 1}
    with pytest.raises(ResourceError, match=r"a\.json is a file where a folder should be"):
        check_writable(path / "b.json")
    with pytest.raises(ResourceError, match="it is a folder"):
        check_writable(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff", '{"a":' * 100_000])
def test_malformed_json_names_the_file(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError, match=r"a\.json"):
        read_json(path)


def test_nan_never_reaches_json(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_sha256_of_a_known_text(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert sha256(path).startswith("ba7816bf8f01cfea414140de5dae2223")


def test_workspace_paths_stay_inside(tmp_path):
    workspace = Workspace.at(tmp_path)
    assert workspace.units("org/m@0", "mlp_post.0", "neurons").relative_to(tmp_path)
    for name in ("..", "../x", "", ".hidden", "a\\b", "a\x00b", "x" * 121):
        with pytest.raises(ConfigError):
            workspace.store(name)
    assert safe("org/model") == "org+model"


def test_workspace_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("INTERP_WORKSPACE", str(tmp_path / "w"))
    assert Workspace.at().root == tmp_path / "w"
    assert Workspace.at(tmp_path).root == tmp_path


def test_provenance_round_trips_and_refuses_foreign_keys():
    record = Provenance(job="train", seed=3, config={"k": 2}, parents={"store": "ab"})
    assert Provenance.from_dict(record.to_dict()) == record
    assert "python" in versions()
    assert commit() == "" or len(commit().rstrip("+")) == 40
    with pytest.raises(FormatError, match="malformed provenance"):
        Provenance.from_dict({"job": "x", "colour": 1})


def test_unknown_names_suggest_or_list():
    assert "did you mean: resid_post.9" in str(UnknownName("site", "resid_pos.9", ["resid_post.9"]))
    assert "known: a, b" in str(UnknownName("site", "zzzz", ["b", "a"], "Look again."))
    assert issubclass(UnknownName, InterpError)
    assert UnknownName("x", "y", []).exit_code == 2
