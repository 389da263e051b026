"""Passages: the right tokens, within one document and one window, peak in its place."""

import numpy as np
import pytest

from apps import contexts
from interp.errors import FormatError
from interp.features.table import UnitTable
from interp.store import ActivationStore
from tests.apps.workspace import AFTER, BEFORE, LATENTS, MODEL, SITE, WORDS


@pytest.fixture
def store(built):
    return ActivationStore.open(built.store(MODEL))


@pytest.fixture
def table(built):
    return UnitTable.open(built.units(MODEL, SITE, LATENTS))


def test_passages_hold_the_stores_tokens_around_the_peak(table, store):
    for unit in range(0, 96, 5):
        strata = table.contexts(unit)
        for (name, passages), stratum in zip(
            contexts.passages(table, store, unit), strata, strict=True
        ):
            assert name == stratum.name
            for passage, row in zip(passages, stratum.rows, strict=True):
                peak = passage.tokens[passage.peak]
                assert peak.text == store.vocabulary.pieces([int(store.tokens[row])])[0]
                assert peak.value == pytest.approx(passage.value, rel=1e-3)
                start = int(row) - passage.peak
                ids = store.tokens[start : start + len(passage.tokens)]
                assert "".join(t.text for t in passage.tokens) == store.vocabulary.text(
                    ids.tolist()
                )
                document = store.documents[int(store.document_index[row])]
                assert (passage.title, passage.heldout) == (document.title, document.heldout)


def test_a_passage_ends_where_its_document_or_window_does(store):
    window = np.arange(BEFORE + 1 + AFTER, dtype=np.float16)
    for row in [0, store.rows - 1, *np.flatnonzero(store.positions == 1)[:5]]:
        one = contexts.passage(store, int(row), 1.0, window, BEFORE, BEFORE, AFTER)
        rows = np.arange(len(one.tokens)) + row - one.peak
        assert len(set(store.document_index[rows].tolist())) == 1
        assert (np.diff(store.positions[rows]) == 1).all()
        assert [t.value for t in one.tokens] == (rows - row + BEFORE).tolist()
    first = contexts.passage(store, 0, 1.0, window, BEFORE, BEFORE, AFTER)
    assert first.peak == 0


def test_reach_shortens_both_sides(table, store):
    unit = 3
    for _, passages in contexts.passages(table, store, unit, reach=2):
        assert all(len(passage.tokens) <= 5 for passage in passages)


def test_another_store_is_refused(table, store, own):
    manifest = own.store(MODEL) / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")
    with pytest.raises(FormatError, match="interp extract"):
        contexts.check_match(table, ActivationStore.open(own.store(MODEL)))
    contexts.check_match(table, store)


def test_special_tokens_are_marked(store):
    bos = len(WORDS) - 1
    made = contexts.tokens(store, [0, bos], ["the", "<bos>"], [0.0, 0.0])
    assert [token.special for token in made] == [False, True]
