"""Token strips: nothing of a vocabulary reaches a page unescaped, and no character is lost."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.tokens import CAP, LONGEST, Token, chip, legend, plain, strip

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</style><script>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='x",
    "&lt;b&gt;",
    "</mark></span>",
    "<!--",
    "\u202eevil\u202c",
    "\x00\x07\x1b[31m",
    "\ud800",
    "\ufffd",
]
ALLOWED = {"span", "mark", "sub", "i"}


class Reader(HTMLParser):
    """Collects tags, attributes and text, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.names: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        raise AssertionError(f"a comment came through: {data}")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("special", [False, True])
def test_hostile_tokens_are_text(text, value, special):
    seen = Reader(strip([Token("a"), Token(text, value, special)], 1.0, numbers=True))
    assert set(seen.tags) <= ALLOWED
    assert seen.names <= {"class", "style", "title", "dir"}
    assert set(Reader(chip(text)).tags) <= ALLOWED


@given(st.lists(st.tuples(st.text(max_size=8), st.floats(0, 10)), max_size=12))
def test_any_text_is_inert_and_balanced(pairs):
    page = strip([Token(text, value) for text, value in pairs], 10.0)
    seen = Reader(page)
    assert set(seen.tags) <= {"span", "mark"}
    assert page.count("<mark") == page.count("</mark>")
    assert "\u202e" not in page
    assert "\n" not in page


@given(st.lists(st.text("ab <>&\"'é漢", min_size=1, max_size=5), min_size=1, max_size=9))
def test_printable_text_comes_back_whole(words):
    assert Reader(strip([Token(word) for word in words], 1.0)).text == "".join(words)


def test_unmarked_runs_are_merged():
    page = strip([Token(" the")] * 50 + [Token(" sea", 2.0)] + [Token(" and")] * 50, 2.0)
    assert page.count("<mark") == 1
    assert page.count("<span") == 1


def test_alpha_follows_the_value_and_is_capped():
    page = strip([Token("a", 1.0), Token("b", 4.0), Token("c", 400.0)], 4.0)
    assert re.findall(r"--a:([\d.]+)", page) == ["0.15", "0.60", "0.60"]
    assert max(map(float, re.findall(r"--a:([\d.]+)", legend(4.0)))) == CAP
    assert 'title="1"' in page


def test_values_are_written_on_request():
    assert "<sub>2.5</sub>" in strip([Token("a", 2.5)], 5.0, numbers=True)
    assert "<sub>" not in strip([Token("a", 2.5)], 5.0)


def test_weak_tokens_stay_unmarked_unless_they_are_the_peak():
    tokens = [Token("a", 0.01), Token("b", 0.01)]
    assert "<mark" not in strip(tokens, 1.0)
    assert strip(tokens, 1.0, peak=1).count("tk-peak") == 1


def test_a_split_character_is_one_mark_with_the_strongest_value():
    page = strip([Token("漢", 0.5), Token("", 2.0), Token("", 0.1), Token("b")], 2.0, peak=1)
    assert page.count("<mark") == 1
    assert 'title="2"' in page
    assert "tk-peak" in page


def test_line_breaks_and_spaces_are_visible():
    assert "↵" in strip([Token("a\n\n")], 1.0)
    assert "⇥" in strip([Token("\t")], 1.0)
    assert "␣␣" in strip([Token("  ", 1.0)], 1.0)
    assert "␣" in chip(" the")


def test_a_very_long_token_is_counted_not_shown():
    page = strip([Token("x" * 10_000, 1.0)], 1.0)
    assert len(page) < 400
    assert f"(+{10_000 - LONGEST:,} characters)" in page
    assert plain("x" * 10_000).endswith("characters)")


def test_nothing_is_drawn_when_the_scale_is_zero():
    assert "<mark" not in strip([Token("a", 0.0)], 0.0)
    assert Reader(strip([], 1.0)).text == ""


def test_special_tokens_are_chips():
    assert '<span class="tk-special">&lt;|im_start|&gt;</span>' in strip(
        [Token("<|im_start|>", 0.0, True)], 1.0
    )
