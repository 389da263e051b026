"""Shared pieces of HTML: escaped, and figures that can be read."""

import math

import pytest

from apps import parts

HOSTILE = '"><script>alert(1)</script>'


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"), (12, "12"), (1234567, "1,234,567"), (0.12345, "0.123"), (0.0, "0"),
        (0.00001234, "1.23e-05"), (12345.6, "12,346"), (2.5e9, "2.50e+09"), (-3.14159, "-3.14"),
        (math.nan, "–"), (None, "–"), ("text", "–"), (True, "–"),
    ],
)  # fmt: skip
def test_numbers_are_readable(value, words):
    assert parts.number(value) == words


def test_a_state_names_commands_as_code():
    note = "`interp evaluate` measures <b>"
    assert "<code>interp evaluate</code> measures &lt;b&gt;" in parts.state("ready", note)


def test_percent():
    assert parts.percent(0.004217) == "0.422 %"
    assert parts.percent(0.0) == "0 %"
    assert parts.percent(None) == "–"


@pytest.mark.parametrize(
    "html",
    [
        parts.facts([(HOSTILE, HOSTILE, HOSTILE)]),
        parts.rows([HOSTILE], [[parts.text(HOSTILE)]]),
        parts.state(HOSTILE, HOSTILE),
        parts.tag(HOSTILE, HOSTILE),
        parts.provenance(
            {"seed": HOSTILE, "commit": HOSTILE, "versions": {HOSTILE: HOSTILE}}, {HOSTILE: HOSTILE}
        ),
    ],
)
def test_everything_is_escaped(html):
    assert "<script" not in html
    assert "&lt;script" in html
