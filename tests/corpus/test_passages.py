"""Cutting and splitting: nothing lost, nothing on both sides."""

import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.corpus import Document, split_heldout
from interp.corpus.passages import LIMIT, cut, decode, strip_gutenberg, tidy
from interp.errors import ConfigError

TEXTS = st.text(alphabet=st.sampled_from("ab é漢\n\n .!?\t"), max_size=400)


@given(TEXTS, st.integers(4, 60))
def test_passages_keep_every_character_but_white_space(text, limit):
    passages = cut(text, limit)
    assert "".join("".join(passages).split()) == "".join(text.split())
    assert all(0 < len(passage.encode()) <= limit for passage in passages)
    place = 0
    for passage in passages:  # each stands in the text as it is, after the one before
        place = text.find(passage, place)
        assert place >= 0
        place += len(passage)


@given(st.text(max_size=400), st.integers(4, 60))
def test_passages_of_any_characters_at_all(text, limit):
    passages = cut(text, limit)
    assert "".join("".join(passages).split()) == "".join(text.split())
    assert all(0 < len(passage.encode()) <= limit for passage in passages)


def test_a_short_text_is_one_passage_and_white_space_none():
    assert cut("one\n\n\n\ntwo\n") == ["one\n\n\n\ntwo"]
    assert cut(" \n\t\n") == cut("") == []
    assert cut("x" * LIMIT) == ["x" * LIMIT]
    assert list(map(len, cut("x" * (LIMIT + 1)))) == [LIMIT // 4] * 4 + [1]


def test_sections_come_before_paragraphs_before_lines_before_sentences():
    assert cut("a b\n\nc\n\n\nd", limit=9) == ["a b\n\nc", "d"]
    assert cut("a b\nc\n\nd", limit=6) == ["a b\nc", "d"]
    assert cut("a b. c\nd", limit=7) == ["a b. c", "d"]
    assert cut("a b. c d", limit=6) == ["a b.", "c d"]
    assert cut("a b。 c d", limit=8) == ["a b。", "c d"]


def test_a_heading_stays_with_its_text():
    verses = "\n".join(["In the beginning"] * 60)
    first, *rest = cut(f"Genesis 1\n\n{verses}", limit=400)
    assert first.startswith("Genesis 1\n\nIn the beginning\nIn the")
    assert len(rest) == 2


def test_a_long_text_is_cut_in_linear_time():
    """A megabyte without one blank, and one of blanks only."""
    started = time.process_time()
    assert "".join(cut("x" * 1_000_000)) == "x" * 1_000_000
    assert cut(" \n" * 500_000) == []
    assert time.process_time() - started < 5


def test_files_of_unknown_age():
    assert decode("é\n".encode()) == decode("é\n".encode("latin-1")) == "é\n"
    assert decode(b"THE END\r\n\x1a") == "THE END\r\n"
    assert tidy("\ufeffa \t\r\nb\r\r\n\n\n\n\nc\n") == "a\nb\n\n\nc"


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
    old = (
        "talk\n*END*THE SMALL PRINT! FOR ETEXTS*Ver.04.29.93*END*\n\nHello\n"
        "End of this Project Gutenberg Etext of X\nmore"
    )
    assert strip_gutenberg(old).strip() == "Hello"


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


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.25, 0.5])
def test_about_as_much_is_held_out_as_was_asked_for(fraction):
    whole = documents([f"work {i}" for i in range(200)]) + documents(["a", "b"], "small")
    held = split_heldout(whole, fraction)
    assert held.dtype == np.bool_
    large = [bool(h) for d, h in zip(whole, held, strict=True) if d.domain == "d"]
    assert sum(large) / len(large) == pytest.approx(fraction, abs=0.005)
    small = {d.title: bool(h) for d, h in zip(whole, held, strict=True) if d.domain == "small"}
    assert sum(small.values()) == 1


def test_the_same_split_in_every_process_and_version():
    """Pinned: a stored dictionary's held-out text must stay held out for ever."""
    whole = documents([f"work {i}" for i in range(20)])
    held = {d.title for d, h in zip(whole, split_heldout(whole, 0.2), strict=True) if h}
    assert held == {"work 1", "work 5", "work 9", "work 17"}


def test_a_single_work_and_no_work_hold_out_nothing():
    assert not split_heldout(documents(["only"]), 0.9).any()
    assert split_heldout([], 0.5).shape == (0,)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 2, float("nan")])
def test_a_fraction_that_is_none_is_refused(fraction):
    with pytest.raises(ConfigError, match="held-out fraction"):
        split_heldout(documents(["a", "b"]), float(fraction))
