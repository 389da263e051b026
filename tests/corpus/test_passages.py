"""Cutting and splitting: nothing lost, nothing on both sides."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.corpus import Document, split_heldout
from interp.corpus.passages import cut, strip_gutenberg, tidy
from interp.errors import ConfigError

TEXTS = st.text(alphabet=st.sampled_from("ab é漢\n\n .!?\t"), max_size=400)


@given(TEXTS, st.integers(4, 60))
def test_passages_keep_every_character_but_white_space(text, limit):
    passages = cut(text, limit)
    assert "".join("".join(passages).split()) == "".join(text.split())
    assert all(0 < len(passage.encode()) <= limit for passage in passages)


@given(st.lists(st.text("ab", min_size=1, max_size=20), min_size=2, max_size=12))
def test_it_cuts_between_paragraphs_where_they_fit(paragraphs):
    passages = cut("\n\n".join(paragraphs), limit=48)
    assert [p for passage in passages for p in passage.split("\n\n")] == paragraphs


@given(TEXTS)
def test_tidying_twice_changes_nothing(text):
    assert tidy(tidy(text)) == tidy(text)


def test_gutenberg_notices_go():
    text = (
        "licence talk\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\nHello\n"
        "<<THIS ELECTRONIC VERSION is\nnot ours>>there\n*** END OF THE PROJECT GUTENBERG\nmore"
    )
    assert strip_gutenberg(text).strip() == "Hello\nthere"
    assert strip_gutenberg("no notice") == "no notice"


def documents(titles, domain="d"):
    return [
        Document(text=f"{title} {i}", title=title, domain=domain, language="en", licence="CC0")
        for title in titles
        for i in range(3)
    ]


@given(st.sets(st.text("abcdef", min_size=1), min_size=1, max_size=40), st.integers(0, 99))
def test_split_is_by_work_and_knows_only_titles(titles, seed):
    whole = documents(sorted(titles))
    held = split_heldout(whole, 0.2, seed)
    of = {d.title: bool(h) for d, h in zip(whole, held, strict=True)}
    assert all(of[d.title] == h for d, h in zip(whole, held, strict=True))
    assert sum(of.values()) == (
        0 if len(titles) < 2 else min(max(round(0.2 * len(titles)), 1), len(titles) - 1)
    )
    mixed = whole + documents(["x", "y"], "other")
    random.Random(seed).shuffle(mixed)
    again = split_heldout(mixed, 0.2, seed)
    for document, h in zip(mixed, again, strict=True):
        if document.domain == "d":
            assert of[document.title] == h


def test_seeds_choose_other_works_and_zero_chooses_none():
    whole = documents([f"work {i}" for i in range(60)])
    one, two = (split_heldout(whole, 0.3, seed) for seed in (0, 1))
    assert not np.array_equal(one, two)
    assert not split_heldout(whole, 0.0).any()
    with pytest.raises(ConfigError, match="held-out fraction"):
        split_heldout(whole, 1.0)
