"""Wrong use and broken files: one sentence, what is known, the remedy, the exit code, no loss."""

import errno
import hashlib
import os
import socket

import h5py
import numpy as np
import pytest

from interp.cli import main
from interp.files import read_json, write_json
from tests.stores import make_store


@pytest.fixture
def store(workspace):
    """A small store called ``toy`` in the workspace."""
    return make_store(workspace.store("toy"), rows=1200, sites={"resid_post.0": 16})


@pytest.fixture
def fails(capsys):
    """Run a command that must fail, and give its one line of explanation."""

    def run(code: int, *arguments: str) -> str:
        assert main(list(arguments)) == code
        (line,) = [text for text in capsys.readouterr().err.splitlines() if text.strip()]
        assert line.startswith(f"interp {arguments[0]}: ")
        return line

    return run


TRAIN = ("--tokens", "4096", "--batch", "256", "--latents", "32", "--k", "4")


def test_unknown_model_names_the_known_ones(workspace, fails):
    line = fails(2, "capture", "smolm2-135m", "resid_post.9")
    assert "smollm2-135m" in line
    line = fails(2, "models", "get", "gpt-17")
    assert "shakespeare-1l" in line


def test_model_that_is_not_there_yet_names_the_command(workspace, fails):
    assert "interp models get smollm2-135m" in fails(1, "capture", "smollm2-135m", "resid_post.9")


def test_hub_model_offline_is_an_error_not_a_traceback(workspace, fails):
    assert "nobody/nothing" in fails(1, "models", "sites", "nobody/nothing")


def test_unknown_corpus_names_the_known_ones(workspace, fails):
    assert "library" in fails(2, "corpora", "show", "libary")
    assert "library" in fails(2, "corpora", "get", "nonsense")


def test_empty_corpus_is_refused(workspace, fails, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    assert "empty.txt has no text" in fails(1, "corpora", "show", str(tmp_path / "empty.txt"))


def test_unknown_store_and_site_and_dictionary(store, fails):
    assert "interp capture" in fails(1, "train", "tyo", "resid_post.0")
    assert "resid_post.0" in fails(2, "train", "toy", "resid_post.1", *TRAIN)
    assert "neurons" in fails(2, "extract", "toy", "resid_post.0", "--bases", "neuron")
    line = fails(2, "evaluate", "toy", "resid_post.0", "batchtopk-1-k1-s0")
    assert "batchtopk-1-k1-s0" in line
    assert "interp train" in line


def test_k_above_the_width_is_refused(store, fails):
    line = fails(2, "train", "toy", "resid_post.0", "--latents", "32", "--k", "33")
    assert "33" in line
    assert "32" in line


def test_a_setting_of_another_architecture_is_refused(store, fails):
    line = fails(2, "train", "toy", "resid_post.0", "--architecture", "jumprelu", "--k", "3")
    assert "--k" in line
    assert "--bandwidth" in line


def test_store_with_a_broken_manifest_or_shard(store, workspace, fails):
    shard = sorted(store.path.glob("*.h5"))[0]
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    line = fails(1, "verify", "toy")
    assert shard.name in line
    fails(1, "train", "toy", "resid_post.0", *TRAIN)
    shard.write_bytes(whole)
    assert main(["verify", "toy"]) == 0
    (store.path / "manifest.json").write_text("{")
    assert "manifest.json" in fails(1, "verify", "toy")
    assert "manifest.json" in fails(1, "train", "toy", "resid_post.0", *TRAIN)


def test_nan_activations_are_named_with_their_row(workspace, fails):
    store = make_store(workspace.store("toy"), rows=1200, sites={"resid_post.0": 16})
    with h5py.File(sorted(store.path.glob("*.h5"))[0], "r+") as file:
        found: list[h5py.Dataset] = []
        file.visititems(lambda name, each: found.append(each) if "resid_post" in name else None)
        (values,) = [each for each in found if isinstance(each, h5py.Dataset)]
        values[7, 3] = np.nan
    for command in (
        ("train", "toy", "resid_post.0", *TRAIN),
        ("extract", "toy", "resid_post.0", "--no-model", "--bases", "neurons"),
    ):
        line = fails(1, *command)
        assert "NaN" in line
        assert "row 7" in line


def test_full_disk_is_an_error_and_loses_nothing(store, workspace, fails, monkeypatch, capsys):
    """The disk is full from some file on; with room again the same command finishes."""
    command = ["extract", "toy", "resid_post.0", "--no-model", "--json"]
    command += ["--bases", "neurons", "random"]
    real, written = os.fsync, []

    def full(descriptor):
        written.append(descriptor)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        line = fails(1, *command)
    assert "space" in line
    first = workspace.units("toy", "resid_post.0", "neurons")
    (part,) = first.with_name(f"{first.name}.parts").glob("*.h5")
    before = part.stat().st_mtime_ns, hashlib.sha256(part.read_bytes()).hexdigest()
    assert main(command) == 0
    assert (first.stat().st_mtime_ns, hashlib.sha256(first.read_bytes()).hexdigest()) == before
    assert workspace.units("toy", "resid_post.0", "random").is_file()


def test_out_of_memory_is_one_sentence(store, fails, monkeypatch):
    import interp.sae

    def exhausted(*_, **__):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(interp.sae, "train", exhausted)
    assert "out of memory" in fails(1, "train", "toy", "resid_post.0", *TRAIN)


@pytest.mark.parametrize("verb", ["app", "demo"])
def test_port_in_use_is_told_before_any_work(workspace, fails, verb):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert port in fails(2, verb, "--port", port)
    assert "70000" in fails(2, verb, "--port", "70000")
    assert not workspace.root.exists()


def test_json_prints_one_object_and_nothing_else(store, capsys):
    import json

    assert main(["train", "toy", "resid_post.0", *TRAIN, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["heldout"]["rows"] > 0
    assert main(["verify", "toy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []


def test_dictionary_of_a_newer_version_is_refused(store, workspace, fails, capsys):
    assert main(["train", "toy", "resid_post.0", *TRAIN]) == 0
    capsys.readouterr()
    folder = workspace.dictionary("toy", "resid_post.0", "batchtopk-32-k4-s0")
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {**config, "version": 999})
    line = fails(1, "evaluate", "toy", "resid_post.0", "batchtopk-32-k4-s0")
    assert "999" in line
    assert "config.json" in line
