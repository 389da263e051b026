"""What is read from a store is what was written, whatever its rows, shards, types and widths."""

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import ConfigError, DataError, FormatError, UnknownName
from interp.store import ActivationStore, ShuffledBatches, verify
from interp.store.encoding import decode, encode
from tests.stores import WORDS, make_store

BITS = {"float16": (11, -24), "bfloat16": (8, -133), "float32": (24, -149)}
"""Significant bits, and the exponent of the smallest number above zero."""
LARGEST = {"float16": 65504.0, "bfloat16": 3.38e38, "float32": 3.4e38}


def rounded(values: np.ndarray, dtype: str) -> np.ndarray:
    """The nearest numbers of a type, ties to even, from its definition alone."""
    bits, lowest = BITS[dtype]
    exact = values.astype(np.float64)
    _, exponent = np.frexp(exact)
    quantum = np.ldexp(1.0, np.maximum(exponent - bits, lowest))
    return (np.rint(exact / quantum) * quantum).astype(np.float32)


@dataclass
class Case:
    """A store, and what its site must hold."""

    store: ActivationStore
    site: str
    expected: np.ndarray
    tokens: np.ndarray
    sinks: np.ndarray
    document: np.ndarray

    @property
    def heldout(self) -> np.ndarray:
        return self.document % 3 == 1  # as `make_store` says


@st.composite
def shapes(draw: st.DrawFn) -> dict:
    few = st.integers(1, 60)
    around = st.sampled_from([1023, 1024, 1025, 2500, 8191, 8192, 8193, 17_000])
    rows = draw(st.one_of(few, around))
    return {
        "rows": rows,
        "documents": draw(st.integers(1, min(rows, 9))),
        "shard_rows": max(draw(st.sampled_from([1, 7, 1000, 8192, 9000, 20_000])), rows // 8),
        "widths": draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)),
        "dtype": draw(st.sampled_from(sorted(BITS))),
        "sinks": draw(st.sampled_from([0.0, 0.2])),
        "seed": draw(st.integers(0, 1000)),
    }


@contextmanager
def written(
    *,
    rows: int,
    documents: int,
    shard_rows: int,
    widths: list[int],
    dtype: str,
    sinks: float,
    seed: int,
) -> Generator[Case, None, None]:
    draw = np.random.default_rng(seed)
    low, high = np.log10(2.0 ** BITS[dtype][1]) - 1, np.log10(LARGEST[dtype])
    given = {}
    for layer, width in enumerate(widths):
        size = 10 ** draw.uniform(max(low, -44), high, (rows, width))
        values = (size * draw.choice([-1, 0, 1, 1, 1], (rows, width))).astype(np.float32)
        given[f"resid_post.{layer}"] = np.clip(values, -LARGEST[dtype], LARGEST[dtype])
    mark = draw.random(rows) < sinks
    tokens = draw.integers(0, 9, rows)
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(
            Path(folder) / "store",
            activations=given,
            tokens=tokens,
            sinks=mark,
            documents=documents,
            shard_rows=shard_rows,
            dtype=dtype,
            seed=seed,
        )
        site = sorted(given)[seed % len(given)]
        sizes = [rows // documents + (d < rows % documents) for d in range(documents)]
        document = np.repeat(np.arange(documents), sizes)
        yield Case(store, site, rounded(given[site], dtype), tokens, mark, document)


def sorted_rows(values: np.ndarray) -> np.ndarray:
    return values[np.lexsort(values.T)]


few_examples = settings(max_examples=15, deadline=None)


@given(shape=shapes(), data=st.data())
@few_examples
def test_rows_come_back_by_block_by_range_and_by_number(shape, data) -> None:
    with written(**shape) as case:
        store, site, rows = case.store, case.site, shape["rows"]
        assert np.array_equal(store.read(site, 0, rows), case.expected)
        start = data.draw(st.integers(0, rows))
        stop = data.draw(st.integers(start, rows))
        assert np.array_equal(store.read(site, start, stop), case.expected[start:stop])
        wanted = data.draw(st.lists(st.integers(0, rows - 1), max_size=30))
        assert np.array_equal(store.take(site, wanted), case.expected[wanted])
        size = data.draw(st.sampled_from([1 + rows // 5, 1024, 8192]))
        blocks = list(store.blocks(site, size=size))
        assert np.array_equal(np.concatenate([n for n, _ in blocks]), np.arange(rows))
        assert np.array_equal(np.concatenate([v for _, v in blocks]), case.expected)


@given(shape=shapes())
@few_examples
def test_columns_and_splits_come_back(shape) -> None:
    with written(**shape) as case:
        store = case.store
        assert np.array_equal(store.tokens, case.tokens)
        assert np.array_equal(store.document_index, case.document)
        assert np.array_equal(store.sinks, case.sinks)
        assert np.array_equal(store.heldout, case.heldout)
        kept = np.flatnonzero(~case.heldout & ~case.sinks)
        assert np.array_equal(store.rows_of("train"), kept)
        assert np.array_equal(store.rows_of("heldout", sinks=True), np.flatnonzero(case.heldout))
        found = list(store.blocks(case.site, split="train", sinks=False, size=100))
        assert [row for rows, _ in found for row in rows] == kept.tolist()
        if found:
            assert np.array_equal(np.concatenate([v for _, v in found]), case.expected[kept])
        assert verify(store.path) == []


@given(
    shape=shapes(),
    batch=st.sampled_from([1, 7, 100, 1024, 3000]),
    pool_rows=st.sampled_from([1, 1500, 4096, 100_000]),
    split=st.sampled_from(["train", "heldout", "all"]),
    sinks=st.booleans(),
)
@few_examples
def test_an_epoch_of_batches_has_each_row_of_its_split_once(
    shape, batch, pool_rows, split, sinks
) -> None:
    with written(**shape) as case:
        chosen = {"train": ~case.heldout, "heldout": case.heldout, "all": case.heldout >= 0}[split]
        chosen = chosen if sinks else chosen & ~case.sinks
        expected = case.expected[chosen]
        options = {"batch": max(batch, len(expected) // 50), "seed": shape["seed"]}
        if not len(expected):
            with pytest.raises(DataError, match=f"no usable {split} rows"):
                ShuffledBatches(case.store, case.site, split=split, sinks=sinks, **options)
            return
        batches = ShuffledBatches(
            case.store, case.site, split=split, sinks=sinks, pool_rows=pool_rows, **options
        )
        assert batches.rows == len(expected)
        rows: list[np.ndarray] = []
        while sum(map(len, rows)) < 2 * len(expected):
            rows.append(next(batches))
            assert rows[-1].shape == (options["batch"], case.expected.shape[1])
        stream = np.concatenate(rows)
        for epoch in (0, 1):
            part = stream[epoch * len(expected) : (epoch + 1) * len(expected)]
            assert np.array_equal(sorted_rows(part), sorted_rows(expected))


@given(
    bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50),
    dtype=st.sampled_from(sorted(BITS)),
)
@settings(max_examples=200, deadline=None)
def test_any_number_is_rounded_to_the_nearest(bits, dtype) -> None:
    values = np.array(bits, np.uint32).view(np.float32)
    values = values[np.isfinite(values) & (np.abs(values) <= LARGEST[dtype])]
    assert np.array_equal(decode(encode(values, dtype), dtype), rounded(values, dtype))


def test_stored_bits_are_written_as_they_are(tmp_path) -> None:
    values = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    plain = make_store(tmp_path / "a", activations={"resid_post.0": values}, dtype="bfloat16")
    bits = {"resid_post.0": encode(values, "bfloat16")}
    encoded = make_store(tmp_path / "b", activations=bits, dtype="bfloat16")
    assert np.array_equal(plain.read("resid_post.0", 0, 300), encoded.read("resid_post.0", 0, 300))


def test_positions_documents_and_text_come_back(tmp_path) -> None:
    store = make_store(tmp_path / "a", rows=100, documents=4, context=8, bos=9)
    assert store.positions[:9].tolist() == [1, 2, 3, 4, 5, 6, 7, 1, 2]
    assert [d.first_row for d in store.documents] == [0, 25, 50, 75]
    assert [d.title for d in store.documents] == [f"Work {i}" for i in range(4)]
    assert store.vocabulary.text([0, 1, 7, 8]) == "the cat café"
    assert (len(store.vocabulary), store.vocabulary.specials) == (len(WORDS), {9})


def test_the_canonical_name_is_the_same_site(tmp_path) -> None:
    store = make_store(tmp_path / "a", sites={"mlp_post.0": 3, "resid_post.0": 2})
    hook = store.site("mlp_post.0").hook
    assert store.site(hook).name == "mlp_post.0"
    assert np.array_equal(store.read(hook, 0, 9), store.read("mlp_post.0", 0, 9))


def test_rows_and_names_that_are_not_there_are_refused(tmp_path) -> None:
    store = make_store(tmp_path / "a", rows=50, bos=None)
    with pytest.raises(UnknownName, match="did you mean: resid_post.0"):
        store.read("resid_pots.0", 0, 1)
    for start, stop in ((0, 51), (-1, 3), (4, 3)):
        with pytest.raises(DataError, match="outside store a of 50"):
            store.read("resid_post.0", start, stop)
    for rows in ([50], [-1]):
        with pytest.raises(DataError, match="outside store a of 50"):
            store.take("resid_post.0", rows)
    with pytest.raises(FormatError, match="token id 10 is outside the vocabulary"):
        store.vocabulary.bytes(10)
    with pytest.raises(ConfigError, match="at least 1"):
        ShuffledBatches(store, "resid_post.0", batch=0, seed=0)
