"""Batches have few shapes, however many shards there are, and hold every window once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from interp import capture
from interp.capture.shards import _count, _even
from tests.capture.tiny import SETTINGS, SITES


def shapes_of(model, texts, out, monkeypatch, **settings) -> list[tuple[int, int]]:
    read, shapes = model.activations, []

    def watched(tokens, places):
        shapes.append(tuple(tokens.shape))
        return read(tokens, places)

    with monkeypatch.context() as patch:
        patch.setattr(model, "activations", watched)
        capture(model, SITES, str(texts), out=out, **{**SETTINGS, **settings})
    return shapes


def test_more_shards_bring_no_more_shapes(model, texts, tmp_path, monkeypatch) -> None:
    few = shapes_of(model, texts, tmp_path / "2", monkeypatch, batch_tokens=64, shard_rows=400)
    many = shapes_of(model, texts, tmp_path / "22", monkeypatch, batch_tokens=64, shard_rows=31)
    assert len(many) > 2 * len(few)
    assert set(many) <= {(windows, 10) for windows in (1, 2, 4, 6)}


def test_rows_are_those_of_one_window_at_a_time(model, texts, tmp_path) -> None:
    stores = [
        capture(model, SITES, str(texts), out=tmp_path / str(size), **SETTINGS, batch_tokens=size)
        for size in (1, 64, 4096)
    ]
    for name in SITES:
        one, *others = (store.read(store.site(name).name, 0, store.rows) for store in stores)
        for other in others:
            np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)


@given(st.integers(-3, 70), st.integers(1, 500))
def test_all_windows_are_taken_in_counts_that_recur(most, windows) -> None:
    counts, left = [], windows
    while left:
        counts.append(_count(most, left))
        left -= counts[-1]
    assert min(counts) >= 1
    assert counts == sorted(counts, reverse=True)
    assert all(count == most or count.bit_count() == 1 for count in counts)


@given(st.integers(1, 5000))
def test_widths_are_rounded_up_by_less_than_a_step(length) -> None:
    assert length <= _even(length) < length + 32
    assert _even(length) % 32 == 0
