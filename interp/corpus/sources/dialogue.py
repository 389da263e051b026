"""Short dialogues in many languages, from the ``chatterbot-corpus`` asset's YAML files."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from interp.corpus.document import Document
from interp.corpus.passages import cut, tidy
from interp.errors import FormatError

LICENCE = "BSD-3-Clause"
_CODES = {
    "bengali": "bn",
    "chinese": "zh-Hans",
    "dutch": "nl",
    "english": "en",
    "french": "fr",
    "german": "de",
    "hebrew": "he",
    "hindi": "hi",
    "hinglish": "hi-Latn",
    "indonesian": "id",
    "italian": "it",
    "japanese": "ja",
    "korean": "ko",
    "marathi": "mr",
    "oriya": "or",
    "persian": "fa",
    "portuguese": "pt",
    "russian": "ru",
    "spanish": "es",
    "swedish": "sv",
    "tamil": "ta",
    "telugu": "te",
    "thai": "th",
    "traditionalchinese": "zh-Hant",
    "turkish": "tr",
    "ukrainian": "uk",
    "urdu": "ur",
    "yoruba": "yo",
}
_MISLABELLED = ("swedish/conversations",)  # it is in English
# Every scalar stays a string: an answer "Yes" is no boolean here.
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_ADDRESS = re.compile(r"<\S+@\S+>")


def dialogue(asset: Path) -> Iterator[Document]:
    """One work a file, that is a language and a topic; a line an utterance.

    A conversation that stood before, in this file or another, is left out, and so is one of three
    lines or more that differs from an earlier one in its first line only. So are lists of authors.

    Raises:
        FormatError: a file holds no list of conversations.
    """
    folder = asset / "chatterbot_corpus" / "data"
    seen: set[tuple[str, ...]] = set()
    for path in sorted(folder.glob("*/*.yml")):
        if f"{path.parent.name}/{path.stem}" in _MISLABELLED:
            continue
        language = _CODES.get(path.parent.name, "und")
        fresh: list[str] = []
        for lines in _conversations(path):
            known = lines[1:] if len(lines) > 2 else lines
            if known not in seen and not _ADDRESS.search("\n".join(lines)):
                fresh.append(tidy("\n".join(lines)))
            seen.add(known)
        for passage in cut("\n\n".join(fresh)):
            yield Document(
                text=passage,
                title=f"dialogues: {path.parent.name}, {path.stem}",
                domain="dialogue",
                language=language,
                licence=LICENCE,
                topic=path.stem,
            )


def _conversations(path: Path) -> Iterator[tuple[str, ...]]:
    """The utterances of each conversation."""
    try:
        page: Any = yaml.load(path.read_text(encoding="utf-8-sig"), _LOADER)  # a safe loader
        conversations: list[Any] = page["conversations"]
    except (yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path} holds no conversations; fetch it again") from error
    if not isinstance(conversations, list):
        raise FormatError(f"{path} holds no list of conversations; fetch it again")
    for conversation in conversations:
        # One written on a single line is no list to YAML, but its one string.
        utterances = conversation if isinstance(conversation, list) else [conversation]
        yield tuple(line for each in utterances if (line := _utterance(each)))


def _utterance(value: Any) -> str:
    """A line; one with a colon in it is a mapping to YAML, whose key and value were the line."""
    if isinstance(value, dict):
        value = "; ".join(f"{key}: {rest}" for key, rest in value.items())
    return str(value).strip()
