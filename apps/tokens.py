"""Token strips: text with each token's activation behind it, as one inert HTML string.

A token comes from a model's vocabulary, so it may be anything: markup, half a character, a
direction override, ten thousand letters. Nothing of it reaches the page unescaped or invisible.

1. A character whose bytes are split over several tokens is shown once, on the first of them, with
   the strongest of their values.
2. Runs of unmarked tokens become one text, which makes a page of contexts three times smaller.
3. A marked token is a ``<mark>``: colour by ``--a`` (an alpha of at most `CAP`, which keeps the
   text readable on light and dark), an underline whose thickness follows the same value for those
   who do not see the colour, and the value itself as its title and, on request, as a number.
"""

import html
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CAP = 0.6
"""Largest alpha behind a token; beyond it, orange on a dark page loses its contrast."""
FLOOR = 0.05
"""Share of the scale below which a token stays unmarked; the legend says so."""
LONGEST = 64
"""Characters of one token that are shown; the rest is counted."""

_PICTURES = {"\n": "↵", "\r": "␍", "\t": "⇥"}
_JOINERS = "\u200c\u200d"  # needed inside Persian words and joined emoji


@dataclass(frozen=True, slots=True)
class Token:
    """One token: what it reads, its activation, and whether it is no text but a special token."""

    text: str
    value: float = 0.0
    special: bool = False


def strip(
    tokens: Sequence[Token], scale: float, *, peak: int | None = None, numbers: bool = False
) -> str:
    """One passage as HTML.

    Args:
        tokens: in reading order; an empty text belongs to the character before it.
        scale: the activation shown at full strength, usually the largest on the page.
        peak: position of the token the passage was chosen for.
        numbers: write each marked token's value beside it.
    """
    parts: list[str] = []
    quiet: list[str] = []
    for token, chosen in _joined(tokens, peak):
        share = token.value / scale if scale > 0 else 0.0
        if token.special:
            parts.append(_flush(quiet))
            parts.append(f'<span class="tk-special">{_visible(token.text)}</span>')
        elif share >= FLOOR or chosen:
            parts.append(_flush(quiet))
            parts.append(_marked(token, min(share, 1.0), chosen, numbers))
        else:
            quiet.append(_visible(token.text))
    parts.append(_flush(quiet))
    return f'<span class="tk-strip" dir="auto">{"".join(parts)}</span>'


def legend(scale: float, unit: str = "activation") -> str:
    """What the colours mean, with the scale's maximum."""
    steps = "".join(
        f'<mark class="tk" style="--a:{CAP * step:.2f}">{html.escape(f"{scale * step:.2g}")}</mark>'
        for step in (0.25, 0.5, 0.75, 1.0)
    )
    return (
        f'<span class="tk-legend">{html.escape(unit)} {steps} '
        f"<span>below {FLOOR:.0%} of the maximum unmarked</span></span>"
    )


def chip(text: str) -> str:
    """A single token standing alone, its outer spaces made visible."""
    body = text.strip(" ")
    left = "␣" * min(len(text) - len(text.lstrip(" ")), 4)
    right = "␣" * min(len(text) - len(text.rstrip(" ")), 4) if body else ""
    return f'<span class="tk-chip"><i>{left}</i>{_visible(body)}<i>{right}</i></span>'


def plain(text: str, longest: int = LONGEST) -> str:
    """Text for places that show plain text, such as table cells: bounded, nothing invisible."""
    return "".join(_characters(text, longest)) + _rest(text, longest)


def _joined(tokens: Sequence[Token], peak: int | None) -> Iterator[tuple[Token, bool]]:
    at = 0
    while at < len(tokens):
        last = at + 1
        while last < len(tokens) and not tokens[last].text:
            last += 1
        group = tokens[at:last]
        value = max((token.value for token in group), key=abs)
        yield Token(group[0].text, value, group[0].special), peak in range(at, last)
        at = last


def _marked(token: Token, share: float, chosen: bool, numbers: bool) -> str:
    blank = not token.text.strip(" ")
    # The space before a word stands outside its mark: at a line's end it would be a lone stripe.
    gap = " " if token.text.startswith(" ") and not blank else ""
    text = _visible(token.text.replace(" ", "␣") if blank else token.text[len(gap) :])
    number = f"{token.value:.3g}"
    note = f"<sub>{number}</sub>" if numbers else ""
    kind = "tk tk-peak" if chosen else "tk"
    alpha = CAP * max(share, 0.0)
    return f'{gap}<mark class="{kind}" style="--a:{alpha:.2f}" title="{number}">{text}{note}</mark>'


def _flush(quiet: list[str]) -> str:
    text = "".join(quiet)
    quiet.clear()
    return text


def _visible(text: str) -> str:
    return html.escape("".join(_characters(text)), quote=True) + _rest(text)


def _rest(text: str, longest: int = LONGEST) -> str:
    return f"… (+{len(text) - longest:,} characters)" if len(text) > longest else ""


def _characters(text: str, longest: int = LONGEST) -> Iterator[str]:
    """The characters shown; those that are invisible or turn the line around become pictures."""
    for character in text[:longest]:
        if character in _PICTURES:
            yield _PICTURES[character]
        elif character.isprintable() or character == " ":
            yield character
        elif ord(character) < 0x20:
            yield chr(0x2400 + ord(character))
        elif unicodedata.category(character) == "Zs" or (character in _JOINERS and len(text) > 1):
            yield character
        else:  # controls, direction marks, private use, unassigned, surrogates
            yield f"‹U+{ord(character):04X}›"
