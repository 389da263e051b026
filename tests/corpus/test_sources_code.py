"""Interface texts, code and documentation on a few files shaped as the real ones."""

import os

import pytest

from interp.corpus.sources.interface import interface, messages
from interp.corpus.sources.stdlib import CODE_BYTES, code, documentation
from interp.errors import AssetError
from tests.corpus.files import put

PO = """\
# Translators:
# Someone <someone@x.invalid>, 2011
msgid ""
msgstr ""
"Project-Id-Version: django\\n"
"Language-Team: German <g@x.invalid>\\n"

msgid "Yes"
msgstr "Ja"

#, fuzzy
msgid "Maybe"
msgstr "Falsch"

#, python-format
msgctxt "count"
msgid "%(n)d \\"file\\""
msgid_plural "%(n)d files"
msgstr[0] "%(n)d \\"Datei\\""
msgstr[1] ""
"%(n)d "
"Dateien\\tund\\\\n"

msgid "Same"
msgstr "Same"

msgid "Never"
msgstr ""

#~ msgid "Old"
#~ msgstr "Alt"

msgid "Again"
msgstr "Ja"
"""


def test_translations_and_nothing_else():
    assert messages(PO, "de") == ["Ja", '%(n)d "Datei"', "%(n)d Dateien\tund\\n"]
    assert messages(PO.replace("\n", "\r\n"), "de") == messages(PO, "de")
    assert messages(PO, "en") == [
        *("Yes", '%(n)d "file"', "%(n)d files", "Same", "Never", "Again"),
    ]


def test_a_work_is_a_language_and_a_component(tmp_path):
    place = "locale__{}__LC_MESSAGES__{}.po"
    put(
        tmp_path / "django",
        **{
            "conf__" + place.format("de", "django"): PO,
            "contrib__admin__" + place.format("zh_Hans", "djangojs"): PO,
            "contrib__admin__" + place.format("eo", "django"): PO,
            "conf__" + place.format("fr", "django"): 'msgid "Yes"\nmsgstr ""\n',
        },
    )
    found = [(d.title, d.language, d.topic) for d in interface(tmp_path)]
    assert found == [
        ("Django core, de, django", "de", "core"),
        ("Django admin, zh_Hans, djangojs", "zh-Hans", "admin"),
    ]


# -- the standard library


@pytest.fixture
def sources(tmp_path):
    put(
        tmp_path,
        **{
            "pkg__mod.py": '"""Module."""\n\ndef f():\n    """Say \\d."""\n    return 1\n',
            "latin.py": '# -*- coding: latin-1 -*-\n"""\xe9."""\n'.encode("latin-1"),
            "site-packages__other.py": '"""Not ours."""\n',
            "test__test_x.py": '"""A test."""\n',
            "_sysconfigdata_linux.py": "build_time_vars = {}\n",
            "pydoc_data__topics.py": "# made\ntopics = {'if': 'The \"if\"\\n********\\n\\n"
            "Long text.',\n 'compound': 'Compound\\n********\\n\\nThe \"if\"\\n========\\n\\n"
            "Long text.\\n\\nMore.',\n 'for': 'Other.'}\nraise SystemExit('run!')\n",
        },
    )
    return tmp_path


def test_a_module_is_code_or_documentation_and_never_both(sources, monkeypatch):
    def works(documents):
        return {d.title.removeprefix("Python ").partition(",")[0] for d in documents}

    everything = {"pkg/mod.py", "latin.py"}
    shares = []
    for size in (0, 20, CODE_BYTES):
        monkeypatch.setattr("interp.corpus.sources.stdlib.CODE_BYTES", size)
        coded = works(code(sources))
        told = works(d for d in documentation(sources) if d.topic == "library")
        assert coded | told == everything
        assert not coded & told
        shares.append(len(coded))
    assert shares == [0, 1, 2]


def test_code_stands_as_it_is_and_docstrings_are_clean(sources, monkeypatch):
    found = {d.title: d for d in code(sources)}
    assert found["Python latin.py"].text == '# -*- coding: latin-1 -*-\n"""é."""'
    assert found["Python pkg/mod.py"].text.startswith('"""Module."""\n\ndef f():\n    """Say')
    assert (found["Python pkg/mod.py"].language, found["Python pkg/mod.py"].topic) == ("py", "pkg")
    monkeypatch.setattr("interp.corpus.sources.stdlib.CODE_BYTES", 0)
    told = {d.title: d.text for d in documentation(sources)}
    assert told["Python pkg/mod.py, docstrings"] == "Module.\n\n\nf\nSay \\d."


def test_topics_that_are_sections_of_others_are_left_out(sources):
    topics = {d.title: d.text for d in documentation(sources) if d.topic == "reference"}
    assert sorted(topics) == ["Python reference: compound", "Python reference: for"]
    assert topics["Python reference: compound"].startswith("Compound\n********\n\nThe")


def test_a_python_without_sources_is_one_sentence(tmp_path):
    with pytest.raises(AssetError, match="no standard library sources at " + str(tmp_path)):
        list(code(tmp_path))
    assert os.listdir(tmp_path) == []
