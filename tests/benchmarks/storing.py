"""Capturing, writing and reading stores, each beside the same work on raw files or without any."""

import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from unittest import mock

import h5py
import numpy as np
import torch

from interp.capture import CaptureConfig, capture, job
from interp.capture.ranks import Ranks
from interp.corpus import load_corpus
from interp.models import load_model
from interp.models.sites import deepest
from interp.store import ActivationStore, Manifest, ShuffledBatches, StoreWriter
from interp.workspace import Workspace
from tests.benchmarks import peers
from tests.benchmarks.pair import Pair
from tests.stores import make_store

SITE, WIDTH, SHARD = "resid_post.0", 576, 65_536


@contextmanager
def folders() -> Generator[Iterator[Path], None, None]:
    """Names of folders that do not exist yet."""
    with tempfile.TemporaryDirectory() as folder:
        yield (Path(folder) / str(number) for number in count())


@contextmanager
def capturing(*sites: str, tokens: int = 65_536) -> Generator[Pair, None, None]:
    """SmolLM2 in bfloat16 over whole windows: capture, or the same forward passes alone.

    The plan and the vocabulary, whose cost does not grow with the tokens, are left out of both. In
    eight shards, so that all but the last are written while the next is computed. Each store takes
    the place of the one before: a virtual machine pays some 8 us for every page that it touches for
    the first time, which would be most of what is measured here.
    """
    place = os.environ.get("INTERP_TEST_WORKSPACE")
    workspace = Workspace.at(place or Path.home() / ".cache" / "interp-tests")
    model = load_model("smollm2-135m", workspace=workspace, dtype="bfloat16")
    corpus = load_corpus("library", workspace)
    stop = deepest([model.site(name) for name in sites])
    plans, batches = [], []
    with folders() as names:
        out = next(names)
        real_plan, real_read = job.make_plan, model.activations

        def make_plan(*args, **settings):
            if not plans:
                plans.append(real_plan(*args, **settings))
            return plans[0]

        def read(tokens, places):
            batches.append(tokens)
            return real_read(tokens, places)

        def ours() -> ActivationStore:
            config = CaptureConfig(tokens=tokens, shard_rows=tokens // 8)
            shutil.rmtree(out, ignore_errors=True)
            return capture(model, sites, corpus, out=out, config=config, ranks=Ranks())

        def plain() -> None:
            with torch.inference_mode():
                for batch in batches:
                    model.forward(batch, stop_at_layer=stop)

        words = model.tokenizer.vocabulary()
        with (
            mock.patch.object(job, "make_plan", make_plan),
            mock.patch.object(model.tokenizer, "vocabulary", return_value=words),
        ):
            with mock.patch.object(model, "activations", read):
                ours()
            label = f"capture of {len(sites)} site(s) / forward passes alone"
            yield Pair(label, ours, plain, tokens, "tokens")


@contextmanager
def capturing_one() -> Generator[Pair, None, None]:
    """One site."""
    with capturing("resid_post.9") as pair:
        yield pair


@contextmanager
def capturing_three() -> Generator[Pair, None, None]:
    """Three sites."""
    with capturing("resid_post.9", "mlp_post.9", "resid_post.4") as pair:
        yield pair


def columns_of(store: ActivationStore) -> dict[str, np.ndarray]:
    """What a shard holds besides activations."""
    return {
        "token": store.tokens,
        "document": store.document_index,
        "position": store.positions,
        "sink": store.sinks,
    }


def rewrite(store: ActivationStore, folder: Path, values: np.ndarray) -> None:
    """Write a store again, from memory, and seal it."""
    plan = {name: getattr(store.manifest, name) for name in Manifest.__dataclass_fields__}
    manifest, columns = Manifest(**{**plan, "state": "writing"}), columns_of(store)
    with StoreWriter(folder, manifest, store.documents, store.vocabulary) as writer:
        for index, start in enumerate(range(0, store.rows, SHARD)):
            part = slice(start, start + SHARD)
            writer.write_shard(
                index,
                **{name: column[part] for name, column in columns.items()},
                activations={SITE: values[part]},
            )
        writer.seal()


@contextmanager
def writing() -> Generator[Pair, None, None]:
    """Six sealed shards of 65,536 rows of 576, hashed, or their bytes in raw files, flushed."""
    rows = 6 * SHARD
    with folders() as names:
        store = make_store(next(names), rows=rows, sites={SITE: WIDTH}, shard_rows=SHARD)
        values = store.read_stored(store.site(SITE), 0, rows)
        parts = [slice(start, start + SHARD) for start in range(0, rows, SHARD)]
        columns = columns_of(store)

        def ours() -> None:
            rewrite(store, next(names), values)

        def plain() -> None:
            for part in parts:
                with next(names).open("wb") as file:
                    for column in columns.values():
                        column[part].tofile(file)
                    values[part].tofile(file)
                    file.flush()
                    os.fsync(file.fileno())

        yield Pair("sealed write / tofile and fsync", ours, plain, values.nbytes, "B")


@contextmanager
def reading(*, cold: bool = False) -> Generator[Pair, None, None]:
    """131,072 rows of 576 in order, 8,192 at a time, or the same bytes of a raw file."""
    rows, block = 2 * SHARD, 8192
    with folders() as names:
        store = make_store(next(names), rows=rows, sites={SITE: WIDTH}, shard_rows=SHARD)
        site = store.site(SITE)
        raw = next(names)
        store.read_stored(site, 0, rows).tofile(raw)
        files = [raw, *store.path.glob("*.h5")]
        for file in files:
            forget(file, flush=True)

        def ours() -> None:
            for file in files[1:] if cold else ():
                forget(file)
            for start in range(0, rows, block):
                store.read_stored(site, start, start + block)

        def plain() -> None:
            if cold:
                forget(raw)
            with raw.open("rb", buffering=0) as file:
                for _ in range(0, rows, block):
                    file.readinto(np.empty((block, WIDTH), np.float16))  # type: ignore[attr-defined]

        what = "cold" if cold else "warm"
        size = rows * WIDTH * 2
        yield Pair(f"sequential read, {what} / raw read", ours, plain, size, "B")


@contextmanager
def reading_cold() -> Generator[Pair, None, None]:
    """The same from disk."""
    with reading(cold=True) as pair:
        yield pair


def forget(file: Path, *, flush: bool = False) -> None:
    """Drop a file from the page cache."""
    with file.open("rb") as opened:
        if flush:
            os.fsync(opened.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def shuffled_reading(*, whole: bool = False) -> Generator[Pair, None, None]:
    """Batches of 4,096 shuffled rows of 576 by pools of whole runs.

    Beside h5py's fancy indexing, or else beside taking rows of an array that is all in memory.
    """
    rows, batches = 2 * SHARD, 200 if whole else 20
    with folders() as names:
        store = make_store(next(names), rows=rows, sites={SITE: WIDTH}, documents=60,
                           shard_rows=SHARD)  # fmt: skip
        stream = ShuffledBatches(store, SITE, batch=4096, seed=0, split="all", sinks=True)
        draw = np.random.default_rng(0)

        def ours() -> None:
            for _ in range(batches):
                next(stream)

        if whole:
            values = store.read_stored(store.site(SITE), 0, rows)

            def plain() -> None:
                for _ in range(batches):
                    values[draw.integers(0, rows, 4096)].astype(np.float32)

            label = "shuffled batches / rows of an array in memory"
            yield Pair(label, ours, plain, batches * 4096, "rows")
            return
        with h5py.File(store.path / "shard-00000.h5") as file:
            dataset = file[f"activations/{SITE}"]

            def fancy() -> None:
                for _ in range(batches):
                    chosen = np.sort(draw.choice(SHARD, 4096, replace=False))
                    dataset[chosen].astype(np.float32)

            label = "shuffled batches / h5py fancy indexing"
            yield Pair(label, ours, fancy, batches * 4096, "rows")


@contextmanager
def shuffled_reading_warm() -> Generator[Pair, None, None]:
    """The same beside memory."""
    with shuffled_reading(whole=True) as pair:
        yield pair


@contextmanager
def saelens(task: str) -> Generator[Pair, None, None]:
    """The same float16 rows through SAELens' cache of activations, with a disk at rest after it."""
    rows = 6 * SHARD
    with folders() as names:
        store = make_store(next(names), rows=rows, sites={SITE: WIDTH}, shard_rows=SHARD)
        site = store.site(SITE)
        values = store.read_stored(site, 0, rows)
        np.save(file := next(names).with_suffix(".npy"), values)

        def write() -> None:
            rewrite(store, next(names), values)

        def read() -> None:
            for start in range(0, rows, 8192):
                torch.from_numpy(store.read_stored(site, start, start + 8192)).float()

        def batches() -> None:
            stream = ShuffledBatches(store, SITE, batch=4096, seed=0, split="all", sinks=True,
                                     pool_rows=SHARD)  # fmt: skip
            for _ in range(rows // 4096):
                next(stream)

        with peers.worker("saelens_store", str(file), str(next(names))) as theirs:
            if task != "write":
                theirs("write")
            ours = {"write": write, "read": read, "batches": batches}[task]
            label = f"{task} of a store / SAELens' cache of activations"
            yield Pair(label, ours, lambda: theirs(task), values.nbytes, "B")


@contextmanager
def saelens_writing() -> Generator[Pair, None, None]:
    """Written."""
    with saelens("write") as pair:
        yield pair


@contextmanager
def saelens_reading() -> Generator[Pair, None, None]:
    """Read in order, as float32; theirs maps the file and reads it only then."""
    with saelens("read") as pair:
        yield pair


@contextmanager
def saelens_batches() -> Generator[Pair, None, None]:
    """Shuffled float32 batches of 4,096 rows, as training takes them, from a pool of 65,536."""
    with saelens("batches") as pair:
        yield pair
