"""Short dialogues in many languages, from the ``chatterbot-corpus`` asset's YAML files."""

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
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def dialogue(asset: Path) -> Iterator[Document]:
    """One work a file, that is a language and a topic; a line an utterance.

    Raises:
        FormatError: a file holds no list of conversations.
    """
    folder = asset / "chatterbot_corpus" / "data"
    for path in sorted(folder.glob("*/*.yml")):
        language = _CODES.get(path.parent.name, "und")
        for passage in cut("\n\n".join(_conversations(path))):
            yield Document(
                text=passage,
                title=f"dialogues: {path.parent.name}, {path.stem}",
                domain="dialogue",
                language=language,
                licence=LICENCE,
                topic=path.stem,
            )


def _conversations(path: Path) -> Iterator[str]:
    try:
        page: Any = yaml.load(path.read_text(encoding="utf-8-sig"), _LOADER)  # a safe loader
        conversations: list[list[Any]] = page["conversations"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise FormatError(f"{path} holds no conversations; fetch it again") from error
    for conversation in conversations:
        # An utterance with a colon in it is a mapping to YAML: its key and value were one line.
        lines = [
            ": ".join(map(str, *each.items())) if isinstance(each, dict) and len(each) == 1
            else str(each)
            for each in conversation
            if each is not None
        ]  # fmt: skip
        yield tidy("\n".join(lines))
