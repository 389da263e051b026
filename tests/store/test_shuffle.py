"""The order of batches: fixed by the seed, restartable anywhere, new in every epoch."""

import json

import h5py
import numpy as np
import pytest

from interp.errors import ConfigError, FormatError, StoreCorrupt
from interp.store import ActivationStore, ShuffledBatches
from interp.store.shuffle import BLOCK
from tests.stores import make_store

ROWS = 6000
SITE = "resid_post.0"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> ActivationStore:
    """Each row's one activation is its own number."""
    numbers = {SITE: np.arange(ROWS, dtype=np.float32)[:, None]}
    return make_store(
        tmp_path_factory.mktemp("shuffle") / "toy",
        activations=numbers,
        documents=12,
        shard_rows=2500,
        dtype="float32",
    )


def stream(store: ActivationStore, **settings) -> ShuffledBatches:
    return ShuffledBatches(store, SITE, **{"batch": 90, "seed": 5, "pool_rows": 2048} | settings)


def numbers(batches: ShuffledBatches, rows: int) -> list[int]:
    """The next rows of a stream; a batch more than needed is drawn at most."""
    found: list[int] = []
    while len(found) < rows:
        found += next(batches)[:, 0].astype(int).tolist()
    return found[:rows]


def test_the_same_seed_gives_the_same_batches(store) -> None:
    assert numbers(stream(store), 9000) == numbers(stream(store), 9000)


def test_other_seeds_and_other_epochs_are_in_another_order(store) -> None:
    rows = len(store.rows_of("train"))
    whole = numbers(stream(store), 3 * rows)
    epochs = [whole[i * rows : (i + 1) * rows] for i in range(3)] + [
        numbers(stream(store, seed=6), rows)
    ]
    for i, one in enumerate(epochs):
        assert sorted(one) == store.rows_of("train").tolist()
        for other in epochs[:i]:
            same = np.mean(np.array(one) == np.array(other))
            assert same < 0.01  # two random orders agree at one place on average
    begun = {frozenset(row // BLOCK for row in one[:BLOCK]) for one in epochs[:3]}
    assert len(begun) > 1  # nor do they all begin with the same part of the store


def test_the_order_does_not_depend_on_the_size_of_batches(store) -> None:
    assert numbers(stream(store, batch=90), 5000) == numbers(stream(store, batch=777), 5000)


def test_a_batch_mixes_rows_from_far_apart(store) -> None:
    first = np.array(numbers(stream(store, pool_rows=100_000), 90))
    assert first.max() - first.min() > ROWS / 2
    assert np.abs(np.diff(np.sort(first))).max() < ROWS / 4
    runs = np.count_nonzero(np.diff(first) == 1)
    assert runs <= 3  # consecutive in the store, hence from one text


@pytest.mark.parametrize("drawn", [0, 1, 22, 23, 45, 100])
def test_a_saved_place_continues_with_the_very_next_batch(store, drawn) -> None:
    batches = stream(store)
    for _ in range(drawn):
        next(batches)
    state = json.loads(json.dumps(batches.state_dict()))
    expected = [next(batches) for _ in range(60)]
    fresh = stream(store)
    fresh.load_state_dict(state)
    for batch in expected:
        assert np.array_equal(next(fresh), batch)
    fresh.load_state_dict(state)  # and back again, in a stream that has moved on
    assert np.array_equal(next(fresh), expected[0])


def test_reading_a_place_does_not_move_it(store) -> None:
    batches = stream(store)
    next(batches)
    assert batches.state_dict() == batches.state_dict()
    assert batches.state_dict()["drawn"] == 1


@pytest.mark.parametrize(
    "other",
    [{"seed": 6}, {"batch": 91}, {"pool_rows": 4096}, {"split": "all"}, {"sinks": True}],
    ids=lambda other: next(iter(other)),
)
def test_the_place_of_another_stream_is_refused(store, other) -> None:
    name, value = next(iter(other.items()))
    batches = stream(store)
    with pytest.raises(FormatError, match=f"'{name}': {value!r}.*start again, or restore"):
        batches.load_state_dict(stream(store, **other).state_dict())
    assert numbers(batches, 90) == numbers(stream(store), 90)  # left where it was


def test_the_place_in_another_store_is_refused(store, tmp_path) -> None:
    values = {SITE: store.read(SITE, 0, ROWS) + 1}
    other = make_store(
        tmp_path / "toy", activations=values, documents=12, shard_rows=2500, dtype="float32"
    )
    with pytest.raises(FormatError, match="another stream"):
        stream(store).load_state_dict(stream(other).state_dict())


@pytest.mark.parametrize("drawn", [None, -1, "3", 2.5])
def test_a_malformed_place_is_refused(store, drawn) -> None:
    state = stream(store).state_dict() | {"drawn": drawn}
    with pytest.raises(FormatError, match="start again"):
        stream(store).load_state_dict(state)


def test_settings_that_cannot_work_are_refused(store) -> None:
    for settings in ({"batch": 0}, {"pool_rows": 0}, {"seed": -1}):
        with pytest.raises(ConfigError, match="at least"):
            stream(store, **settings)


@pytest.mark.parametrize("batch", [7, 4096])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rows_arrive_whole_in_every_type_and_size_of_batch(tmp_path, dtype, batch) -> None:
    values = np.random.default_rng(3).normal(size=(ROWS, 5)).astype(np.float16).astype(np.float32)
    store = make_store(tmp_path / "toy", activations={SITE: values}, shard_rows=2500, dtype=dtype)
    there = store.read(SITE, 0, ROWS)
    batches = stream(store, batch=batch, split="all", sinks=True, pool_rows=10_000)
    drawn = np.concatenate([next(batches) for _ in range(-(-ROWS // batch))])[:ROWS]
    assert np.array_equal(sorted(map(tuple, drawn)), sorted(map(tuple, there)))


def test_a_number_that_no_capture_writes_stops_the_stream(tmp_path) -> None:
    store = make_store(tmp_path / "toy", rows=300, sites={SITE: 4}, dtype="float16")
    file = store.path / "shard-00000.h5"
    with h5py.File(file, "r+") as opened:
        opened[f"activations/{SITE}"][7, 2] = np.nan
    with pytest.raises(StoreCorrupt, match=r"holds NaN or infinity at .* between rows 0 and 300"):
        next(stream(ActivationStore.open(store.path), split="all", sinks=True))
