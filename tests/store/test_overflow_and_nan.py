"""Numbers that do not fit are cut and counted, or refused."""

from pathlib import Path

import numpy as np
import pytest

from interp.errors import DataError
from interp.store import Manifest, Site, StoreWriter, schema, verify
from interp.store.encoding import decode, encode
from tests.stores import make_store

SITE, ROWS, WIDTH = "resid_post.0", 300, 8


def random(scale: float = 1.0) -> np.ndarray:
    values = np.random.default_rng(1).normal(size=(ROWS, WIDTH))
    return (values * scale).astype(np.float32)


# -- overflow -----------------------------------------------------------------------------------


def test_numbers_above_float16_are_cut_and_counted_by_site_and_shard(tmp_path) -> None:
    large = random()
    large[3, 2], large[4, :2], large[280, 5] = 70_000.0, -1e9, 65_520.0
    store = make_store(
        tmp_path / "toy", activations={"mlp_post.0": random(), SITE: large}, shard_rows=100
    )
    read = store.read(SITE, 0, ROWS)
    assert read[3, 2] == 65_504
    assert (read[4, :2] == -65_504).all()
    assert read[280, 5] == 65_504  # itself below 2^16, but the nearest float16 would be infinity
    others = np.abs(large) < 60_000
    assert np.array_equal(read[others], large[others].astype(np.float16))
    assert store.manifest.overflow == {SITE: 4}
    assert [entry.overflow for entry in store.manifest.shards] == [{SITE: 3}, {}, {SITE: 1}]
    assert verify(store.path) == []


def test_the_largest_float16_itself_is_no_overflow(tmp_path) -> None:
    values = random()
    values[0, :2] = 65_504, -65_519  # the latter rounds down
    store = make_store(tmp_path / "toy", activations={SITE: values})
    assert store.read(SITE, 0, 1)[0, :2].tolist() == [65_504, -65_504]
    assert store.manifest.overflow == {}


def test_what_float16_cannot_hold_bfloat16_can(tmp_path) -> None:
    store = make_store(tmp_path / "toy", activations={SITE: random(1e30)}, dtype="bfloat16")
    assert store.manifest.overflow == {}
    assert np.allclose(store.read(SITE, 0, ROWS), random(1e30), rtol=2**-8)


def test_the_largest_float32_is_cut_to_the_largest_bfloat16(tmp_path) -> None:
    values = random()
    values[5, 5] = np.finfo(np.float32).max
    store = make_store(tmp_path / "toy", activations={SITE: values}, dtype="bfloat16")
    assert store.manifest.overflow == {SITE: 1}
    largest = store.read(SITE, 5, 6)[0, 5]
    assert np.isfinite(largest)
    assert largest == np.uint32(0x7F7F0000).view(np.float32)


# -- NaN and infinity ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_by_site_and_row(tmp_path, dtype, bad) -> None:
    values = random()
    values[207, 3] = bad
    values[150, 0] = 1e6  # overflows float16 before it, which is no error
    with pytest.raises(DataError, match=f"^site {SITE} holds NaN or infinity, first in row 207; "):
        make_store(tmp_path / "toy", activations={SITE: values}, dtype=dtype, shard_rows=100)
    assert [f.name for f in sorted(tmp_path.glob("toy/*.h5"))] == [
        "shard-00000.h5",
        "shard-00001.h5",
    ]


def test_nan_in_bits_is_refused(tmp_path) -> None:
    bits = encode(random(), "bfloat16")
    bits[9, 1] = 0x7FC0
    with pytest.raises(DataError, match=f"site {SITE} holds NaN or infinity, first in row 9"):
        make_store(tmp_path / "toy", activations={SITE: bits}, dtype="bfloat16")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_nan_stays_nan_and_infinity_stays_infinity_in_every_type(dtype) -> None:
    lowest_nan = np.uint32(0x7F800001).view(np.float32)  # rounding must not make it infinite
    found = decode(encode(np.array([np.nan, lowest_nan, np.inf, -np.inf], "f4"), dtype), dtype)
    assert np.isnan(found[:2]).all()
    assert found[2:].tolist() == [np.inf, -np.inf]


# -- shapes -------------------------------------------------------------------------------------


def new_writer(folder: Path) -> StoreWriter:
    manifest = Manifest(
        model="toy",
        model_digest="0",
        corpus="test",
        sites=(Site(SITE, "blocks.0.hook_out", WIDTH, 0),),
        dtypes={SITE: "float32"},
        context=ROWS,
        bos=None,
        rows=ROWS,
        shards=schema.planned([100, 100, 100]),
        request="request",
        plan="plan",
        provenance={},
    )
    return StoreWriter(folder, manifest, [], None)


def put(writer: StoreWriter, index: int, *, now: bool = True, **changes: np.ndarray) -> None:
    whole = np.arange(ROWS)[index * 100 : index * 100 + 100]
    parts = {name: whole for name in ("token", "document", "position", "sink")}
    parts |= {name: value for name, value in changes.items() if name in parts}
    values = changes.get("activations", random()[index * 100 : index * 100 + 100])
    writer.write_shard(index, **parts, activations={SITE: values})
    if now:
        writer.flush()


def test_arrays_of_the_wrong_shape_are_refused(tmp_path) -> None:
    with new_writer(tmp_path / "toy") as writer:
        with pytest.raises(DataError, match=r"column position has shape \(99,\), not \(100,\)"):
            put(writer, 0, position=np.arange(99))
        for values in (random()[:99], random()[:100, :7]):
            with pytest.raises(DataError, match=rf"site {SITE} gave \(\d+, \d\), not \(100, 8\)"):
                put(writer, 0, activations=values)
        with pytest.raises(DataError, match=f"site {SITE} gave nothing"):
            writer.write_shard(
                0, activations={}, **{name: np.arange(100) for name in schema.COLUMNS}
            )
        assert writer.published == frozenset()
