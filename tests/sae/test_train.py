"""From a store to a folder: finished once, continued after any kill, refused when wrong."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import interp.sae.trainer
from interp.errors import ConfigError, DataError, FormatError, ResourceError, UnknownName
from interp.sae import BatchTopK, TopK, TrainConfig, architectures, load_dictionary, train
from interp.sae.files import CHECKPOINT
from interp.store import ActivationStore
from tests.sae.shared import planted_store, small

ARCHITECTURE = BatchTopK(latents=48, k=3)
CONFIG = TrainConfig(tokens=64 * 60, batch=64, lr=1e-2, checkpoint_every=64 * 7, log_every=3)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ActivationStore:
    return planted_store(tmp_path_factory.mktemp("store") / "planted")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def run(store, out: Path, **settings):
    return train(store, "resid_post.0", ARCHITECTURE, CONFIG, out=out, **settings)


@pytest.fixture(scope="module")
def unbroken(store, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("unbroken") / "d"
    run(store, out)
    return contents(out)


def test_a_run_writes_a_folder_that_says_what_it_is(store, unbroken) -> None:
    assert sorted(unbroken) == ["config.json", "log.jsonl", "metrics.json", "weights.safetensors"]
    config = json.loads(unbroken["config.json"])
    assert config["state"] == "finished"
    assert config["origin"] == {
        "model": store.model,
        "site": "resid_post.0",
        "store": store.name,
        "store_digest": store.digest,
    }
    assert config["provenance"]["parents"] == {store.name: store.digest}
    metrics = json.loads(unbroken["metrics.json"])
    assert metrics["heldout"]["rows"] == len(store.rows_of("heldout"))
    assert metrics["training"]["tokens"] == CONFIG.tokens
    assert metrics["heldout"]["fve"] > 0.3
    log = [json.loads(line) for line in unbroken["log.jsonl"].splitlines()]
    assert [line["step"] for line in log] == list(range(3, 61, 3))
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]


def test_the_default_folder_follows_the_address(store, workspace) -> None:
    quick = TrainConfig(tokens=128, batch=64)
    dictionary = train(store, "resid_post.0", TopK(latents=32, k=2), quick, seed=5)
    folder = workspace.dictionary(store.model, "resid_post.0", "topk-32-k2-s5")
    x = torch.from_numpy(store.read("resid_post.0", 0, 20))
    assert torch.equal(load_dictionary(folder).encode(x), dictionary.encode(x))


def test_the_same_command_gives_the_same_bytes_and_another_seed_others(
    store, unbroken, tmp_path
) -> None:
    run(store, tmp_path / "again")
    assert contents(tmp_path / "again") == unbroken
    run(store, tmp_path / "other", seed=1)
    other = contents(tmp_path / "other")
    assert other["weights.safetensors"] != unbroken["weights.safetensors"]


def test_a_finished_run_is_returned_at_once_and_another_refused(store, tmp_path) -> None:
    def never(done: int, total: int, note: str = "") -> None:
        raise AssertionError("a finished run must not train again")

    out = tmp_path / "d"
    first = run(store, out)
    again = run(store, out, progress=never)
    assert torch.equal(first.W_dec, again.W_dec)
    with pytest.raises(ConfigError, match="holds another dictionary .*seed is 0 there and 1 here"):
        run(store, out, seed=1)
    with pytest.raises(ConfigError, match="holds another dictionary"):
        train(store, "resid_post.0", TopK(latents=48, k=3), CONFIG, out=out)


def test_a_second_writer_of_the_same_folder_is_refused(store, tmp_path) -> None:
    def again(done: int, total: int, note: str = "") -> None:
        with pytest.raises(ConfigError, match="another training is writing"):
            run(store, tmp_path / "d")
        raise Stop

    with pytest.raises(Stop):
        run(store, tmp_path / "d", progress=again)


class Stop(Exception):
    """Stands for a kill: leaves the loop wherever it is, nothing is cleaned up."""


@pytest.mark.parametrize("at", [3, 6, 9, 33, 60])
def test_a_broken_run_continues_to_the_same_bytes(store, unbroken, tmp_path, at: int) -> None:
    def stop(done: int, total: int, note: str = "") -> None:
        if done >= at * 64:
            raise Stop

    with pytest.raises(Stop):
        run(store, tmp_path / "d", progress=stop)
    if at < 60:
        with pytest.raises(FormatError, match="has not finished; run the same command again"):
            load_dictionary(tmp_path / "d")
    run(store, tmp_path / "d")
    assert contents(tmp_path / "d") == unbroken


@pytest.mark.parametrize("kind", sorted(architectures()))
def test_every_architecture_continues_to_the_same_bytes(store, tmp_path, kind: str) -> None:
    architecture = small(kind, latents=48, k=3, sparsity_warmup=0.8)

    def go(out: Path, at: int | None) -> dict[str, bytes]:
        def stop(done: int, total: int, note: str = "") -> None:
            if at is not None and done >= at * 64:
                raise Stop

        train(store, "resid_post.0", architecture, CONFIG, out=out, progress=stop)
        return contents(out)

    whole = go(tmp_path / "whole", None)
    with pytest.raises(Stop):
        go(tmp_path / "broken", 33)
    assert go(tmp_path / "broken", None) == whole


def test_killed_with_sigkill_it_continues_to_the_same_bytes(store, unbroken, tmp_path) -> None:
    script = f"""
        import time
        from interp.sae import BatchTopK, TrainConfig, train
        from interp.store import ActivationStore
        store = ActivationStore.open({str(store.path)!r})
        slow = lambda done, total, note="": time.sleep(0.05)
        train(store, "resid_post.0", {ARCHITECTURE!r}, {CONFIG!r}, out={str(tmp_path / "d")!r},
              progress=slow)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], env=environment)
    deadline = time.monotonic() + 240
    while not (tmp_path / "d" / CHECKPOINT).exists() and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert (tmp_path / "d" / CHECKPOINT).exists()
    run(store, tmp_path / "d")
    assert contents(tmp_path / "d") == unbroken


def test_ctrl_c_writes_a_checkpoint_between_steps_and_then_interrupts(
    store, unbroken, tmp_path
) -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[int] = []

    def interrupt(done: int, total: int, note: str = "") -> None:
        seen.append(done)
        if done == 30 * 64:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(store, tmp_path / "d", progress=interrupt)
    assert seen[-1] == 31 * 64  # the step under way was finished
    assert signal.getsignal(signal.SIGINT) is before
    assert (tmp_path / "d" / CHECKPOINT).exists()
    done: list[int] = []
    run(store, tmp_path / "d", progress=lambda d, t, note="": done.append(d))
    assert done[0] == 33 * 64  # continued from step 31, next told at 33
    assert contents(tmp_path / "d") == unbroken


def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint_named(
    store, tmp_path, monkeypatch
) -> None:
    step = interp.sae.trainer.Trainer.step

    def poisoned(self):
        result = step(self)
        if self.done >= 25:
            self.learner.weights.b_dec.fill_(float("nan"))
        return result

    monkeypatch.setattr(interp.sae.trainer.Trainer, "step", poisoned)
    with pytest.raises(DataError, match=r"last good checkpoint is .*checkpoint.* \(step 21\)"):
        run(store, tmp_path / "d")
    monkeypatch.undo()
    assert np.isfinite(run(store, tmp_path / "d").W_dec.numpy()).all()


def test_a_full_disk_is_one_clear_sentence_and_loses_nothing(
    store, unbroken, tmp_path, monkeypatch
) -> None:
    write, count = Path.write_bytes, [0]

    def full(self, data):
        count[0] += 1
        if count[0] == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    last = r"no space left .*; the last good checkpoint is .*checkpoint.safetensors \(step 14\)"
    with pytest.raises(ResourceError, match=last):
        run(store, tmp_path / "d")
    monkeypatch.undo()
    done: list[int] = []
    run(store, tmp_path / "d", progress=lambda d, t, note="": done.append(d))
    assert done[0] > 14 * 64
    assert contents(tmp_path / "d") == unbroken


def test_a_damaged_checkpoint_is_named(store, tmp_path) -> None:
    def stop(done: int, total: int, note: str = "") -> None:
        if done >= 30 * 64:
            raise Stop

    with pytest.raises(Stop):
        run(store, tmp_path / "d", progress=stop)
    checkpoint = tmp_path / "d" / CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(FormatError, match="checkpoint.safetensors is damaged"):
        run(store, tmp_path / "d")


def test_wrong_use_is_refused_before_any_compute(store, tmp_path) -> None:
    def go(**settings):
        return train(store, "resid_post.0", TopK(k=3), CONFIG, out=tmp_path / "d", **settings)

    with pytest.raises(UnknownName, match=r"unknown site .*resid_post.0"):
        train(store, "resid_post.1", TopK(k=3), CONFIG, out=tmp_path / "d")
    with pytest.raises(UnknownName, match="setting of TrainConfig 'sed'; did you mean: seed"):
        go(sed=1)
    with pytest.raises(ConfigError, match="tokens must be int"):
        go(tokens="many")
    with pytest.raises(ConfigError, match="k=999 is more than"):
        train(store, "resid_post.0", TopK(k=999), CONFIG, out=tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_rows_that_cannot_be_used_are_refused_by_name(tmp_path) -> None:
    def go(name: str, **settings):
        store = planted_store(tmp_path / name, **settings)
        return train(store, "resid_post.0", TopK(k=2), CONFIG, out=tmp_path / "d")

    with pytest.raises(DataError, match=r"site resid_post\.0 .* NaN or infinity, first in row 7"):
        go("nan", poison=7)
    with pytest.raises(DataError, match="1 usable train rows; at least two"):
        go("one", train_rows=1)
    with pytest.raises(DataError, match="0 usable heldout rows; at least two"):
        go("none", heldout_rows=0)
    with pytest.raises(DataError, match="is constant over its training rows"):
        go("constant", constant=True)


def test_a_store_smaller_than_a_batch_still_trains(tmp_path) -> None:
    store = planted_store(tmp_path / "small", train_rows=40, heldout_rows=5)
    dictionary = train(store, "resid_post.0", TopK(k=2), tokens=640, batch=64, out=tmp_path / "d")
    assert torch.isfinite(dictionary.W_dec).all()
