"""Small pieces of HTML that every page shares. All text that comes from a file is escaped here."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from apps.theme import Mark


def text(value: object) -> str:
    """Any value as inert text."""
    return html.escape(str(value), quote=True)


def number(value: object, digits: int = 3) -> str:
    """A figure for reading: thousands separated, `digits` significant, a dash for none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.{digits - 1}e}"
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def literal(words: object) -> str:
    """Words that a file gave, for a place that reads Markdown: nothing in them is markup."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+-.!|~$:" else c for c in str(words))


def percent(value: object) -> str:
    """A share as a percentage with enough digits to tell small shares apart."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return "–"
    return "0 %" if value == 0 else f"{number(100 * float(value))} %"


def facts(entries: Iterable[tuple[str, str, str]]) -> str:
    """Labelled figures in a row: label, value, and a small note under it."""
    cells = (
        f"<div><span>{text(label)}</span><b>{text(value)}</b><small>{text(note)}</small></div>"
        for label, value, note in entries
    )
    return f'<div class="facts">{"".join(cells)}</div>'


def swatch(mark: Mark, dark: bool) -> str:
    """The coloured shape of a basis."""
    return f'<span class="swatch {mark.shape}" style="--c:{mark.colour(dark)}"></span>'


def bars(shares: Mapping[str, float], colour: str) -> str:
    """Shares of a whole as horizontal bars, each with its percentage."""
    lines = "".join(
        f'<span>{text(name)}</span><i style="width:{100 * share:.1f}%;--c:{colour}"></i>'
        f'<span class="v">{percent(share)}</span>'
        for name, share in shares.items()
    )
    return f'<div class="bars">{lines}</div>'


def tag(words: str, kind: str = "") -> str:
    """A small label; ``kind`` is good, warn, bad or nothing."""
    return f'<span class="tag {text(kind)}">{text(words)}</span>'


def rows(header: Sequence[str], body: Iterable[Sequence[str]], numeric: Iterable[int] = ()) -> str:
    """A table. Cells are HTML already: whoever makes them escapes them with `text`."""
    right, names = set(numeric), {True: "num", False: "words"}

    def cells(kind: str, values: Sequence[str]) -> str:
        return "".join(
            f'<{kind} class="{names[at in right]}">{value}</{kind}>'
            for at, value in enumerate(values)
        )

    lines = "".join(f"<tr>{cells('td', line)}</tr>" for line in body)
    head = f"<thead><tr>{cells('th', [text(name) for name in header])}</tr></thead>"
    return f'<div class="scroll"><table class="rows">{head}<tbody>{lines}</tbody></table></div>'


def state(name: str, note: str) -> str:
    """The state of an artefact as a tag, with why."""
    kind = {"ready": "good", "unfinished": "warn", "stale": "warn"}.get(name, "bad")
    words = re.sub(r"`([^`]+)`", r"<code>\1</code>", text(note))
    why = f'<div class="why">{words}</div>' if note else ""
    return tag(name, kind) + why


def provenance(record: Mapping[str, Any], more: Mapping[str, object]) -> str:
    """The strip under every page: where these figures come from."""
    entries = dict(more)
    if record:
        entries["seed"] = record.get("seed", "–")
        entries["commit"] = str(record.get("commit") or "unknown")[:12]
        entries["versions"] = ", ".join(
            f"{name} {version}" for name, version in dict(record.get("versions") or {}).items()
        )
    line = " · ".join(f"{text(key)} <b>{text(value)}</b>" for key, value in entries.items())
    return f'<div class="prov">{line}</div>'
