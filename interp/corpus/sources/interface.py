"""What Django's user interface says in many languages, from the ``django`` asset's .po files."""

import re
from collections.abc import Iterator
from pathlib import Path

from interp.corpus.document import Document
from interp.corpus.passages import cut

LICENCE = "BSD-3-Clause"
LANGUAGES = (
    *("ar", "bg", "ca", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi"),
    *("hu", "id", "it", "ja", "ko", "nl", "pl", "pt", "ru", "sv", "tr", "uk", "vi", "zh_Hans"),
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_LINE = re.compile(r'(?:(msgctxt|msgid|msgid_plural|msgstr(?:\[\d+\])?)\s+)?"(.*)"\s*')


def interface(asset: Path) -> Iterator[Document]:
    """One work a language and component, such as German and the admin pages."""
    root = asset / "django"
    for path in sorted(root.rglob("*.po")):
        language = path.parent.parent.name
        if language not in LANGUAGES:
            continue
        place = path.relative_to(root).parts
        component = place[1] if place[0] == "contrib" else "core"
        for passage in cut("\n\n".join(messages(path.read_text(encoding="utf-8"), language))):
            yield Document(
                text=passage,
                title=f"Django {component}, {language}, {path.stem}",
                domain="interface",
                language=language.replace("_", "-"),
                licence=LICENCE,
                topic=component,
            )


def messages(text: str, language: str = "") -> list[str]:
    """The translated texts of a .po file, in order, each once.

    For English, whose translations are empty, the originals. Entries that are fuzzy, obsolete,
    untranslated or the file's header are left out.

    >>> messages('msgid "Yes"\\nmsgstr "Ja"\\n')
    ['Ja']
    """
    found: dict[str, None] = {}
    for block in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        entry = _entry(block)
        original = entry.pop("msgid", "")
        plural = entry.pop("msgid_plural", "")
        entry.pop("msgctxt", "")
        if not original or re.search(r"^#,.*\bfuzzy\b", block, flags=re.M):
            continue
        texts = (original, plural) if language == "en" else tuple(entry.values())
        same = () if language == "en" else (original, plural)
        found.update(dict.fromkeys(each.strip() for each in texts if each and each not in same))
    found.pop("", None)
    return list(found)


def _entry(block: str) -> dict[str, str]:
    """Keyword to unescaped string of one entry."""
    entry: dict[str, str] = {}
    key = ""
    for line in block.splitlines():
        match = _LINE.fullmatch(line)
        if not match:  # a comment, or an obsolete entry (#~)
            continue
        key = match[1] or key
        if key:
            part = re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), match[2])
            entry[key] = entry.get(key, "") + part
    return entry
