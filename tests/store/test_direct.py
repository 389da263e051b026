"""Arrays get to their places in a file whole, directly or not, and the hash is of what is there."""

import errno
import hashlib
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.store import direct, shard
from interp.store.direct import BUFFER, LARGE, PAGE, Place, between, sha256_of, write_at
from interp.store.schema import COLUMNS

sizes = st.sampled_from(
    [1, 100, PAGE, LARGE - 1, LARGE, LARGE + 1, LARGE + PAGE, BUFFER - 1, BUFFER, BUFFER + 5001]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("direct")


@settings(max_examples=40, deadline=None)
@given(
    layout=st.lists(st.tuples(st.integers(0, 9000), st.booleans(), sizes), min_size=1, max_size=4),
    tail=st.integers(0, 5000),
    order=st.randoms(use_true_random=False),
)
def test_bytes_and_hash(folder, layout, tail, order):
    draw = np.random.default_rng(0)
    expected, places = bytearray(), []
    for gap, aligned, size in layout:
        expected += draw.bytes(gap)
        if aligned:
            expected += draw.bytes(-len(expected) % PAGE)
        places.append(Place(len(expected), np.frombuffer(draw.bytes(size), np.uint8)))
        expected += bytes(size)
    expected += draw.bytes(tail)
    path = folder / "file"
    path.write_bytes(expected)
    for place in places:
        expected[place.offset : place.offset + place.values.nbytes] = place.view
    rest = between(path, places)
    assert sha256_of(rest, places) == hashlib.sha256(expected).hexdigest()  # before it is there
    write_at(path, order.sample(places, len(places)))
    assert path.read_bytes() == expected
    assert between(path, places) == rest


def columns(rows: int) -> dict[str, np.ndarray]:
    return {name: np.arange(rows) % 5 for name in COLUMNS}


def publish(path: Path, rows: int = 9000, width: int = 300) -> np.ndarray:
    values = np.random.default_rng(0).standard_normal((rows, width)).astype(np.float16)
    digest = shard.publish(path, columns(rows), {"mlp_post.0": values}, {"mlp_post.0": "float16"})
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    return values


def test_a_shard_is_the_same_where_nothing_can_be_written_directly(tmp_path, monkeypatch):
    publish(tmp_path / "direct.h5")
    monkeypatch.delattr(os, "O_DIRECT", raising=False)
    values = publish(tmp_path / "usual.h5")
    assert (tmp_path / "direct.h5").read_bytes() == (tmp_path / "usual.h5").read_bytes()
    with h5py.File(tmp_path / "usual.h5") as file:
        assert np.array_equal(file["activations/mlp_post.0"][:], values)
        assert np.array_equal(file["position"][:], columns(len(values))["position"])


def test_a_file_system_that_refuses_direct_writes_half_way(tmp_path, monkeypatch):
    publish(tmp_path / "direct.h5")

    def refuse(path, places, done):
        largest = max(range(len(places)), key=lambda index: places[index].direct)
        done[largest] = 3 * PAGE
        write_at(
            path, [Place(places[largest].offset, places[largest].values.flat[: 3 * PAGE // 2])]
        )
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(direct, "_write_directly", refuse)
    publish(tmp_path / "refused.h5")
    assert (tmp_path / "direct.h5").read_bytes() == (tmp_path / "refused.h5").read_bytes()
