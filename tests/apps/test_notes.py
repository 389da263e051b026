"""Notes: never lost, never mixed, mergeable; and where a reader writes and finds them."""

import json
import os
import subprocess
import sys

import pytest

from apps import notes
from apps.notes import Note
from interp.errors import ConfigError, ResourceError
from tests.apps.conftest import shown
from tests.apps.workspace import LATENTS, MODEL, SITE

ADDRESS = f"{MODEL}/{SITE}"
LATER = "2026-01-02T00:00:00.000000+00:00"
EARLY = "2026-01-01T00:00:00.000000+00:00"


def test_the_last_note_by_time_counts_and_the_history_stays(tmp_path):
    path = tmp_path / "x.notes.jsonl"
    notes.append(path, Note(unit=3, time=LATER, label="late"))
    notes.append(path, Note(unit=3, time=EARLY, label="early", rating=2))
    notes.append(path, Note(unit=1, time=EARLY, comment="zwei\nZeilen – ü"))
    assert [note.label for note in notes.history(path) if note.unit == 3] == ["early", "late"]
    found = notes.latest(path)
    assert list(found) == [1, 3]
    assert found[3].label == "late"
    assert found[1].comment == "zwei\nZeilen – ü"


def test_an_empty_note_takes_an_earlier_one_back(tmp_path):
    path = tmp_path / "x.notes.jsonl"
    notes.append(path, Note(unit=3, time=EARLY, label="wrong"))
    notes.append(path, Note(unit=3, time=LATER))
    assert notes.latest(path) == {}
    assert len(notes.history(path)) == 2


def test_files_merge_by_concatenation_in_any_order(tmp_path):
    one, two, both, other = (tmp_path / name for name in ("1", "2", "3", "4"))
    shared = Note(unit=0, time=EARLY, label="shared")
    for path, label, time in ((one, "mine", EARLY), (two, "yours", LATER)):
        notes.append(path, shared)
        notes.append(path, Note(unit=5, time=time, label=label))
    both.write_bytes(one.read_bytes() + two.read_bytes())
    other.write_bytes(two.read_bytes() + one.read_bytes())
    assert notes.history(both) == notes.history(other)
    assert len(notes.history(both)) == 3
    assert notes.latest(both)[5].label == "yours"


def test_a_line_cut_short_costs_only_itself(tmp_path):
    path = tmp_path / "x.notes.jsonl"
    notes.append(path, Note(unit=3, time=EARLY, label="whole"))
    with path.open("ab") as file:
        file.write(
            b'{"unit": 4, "time": "2026',
        )
    notes.append(path, Note(unit=5, time=LATER, label="after"))
    assert {unit: note.label for unit, note in notes.latest(path).items()} == {
        3: "whole",
        5: "after",
    }


@pytest.mark.parametrize(
    "line", ["[1]", "null", '{"unit": -1, "time": ""}', '{"time": ""}', "\xff", '{"unit": {}}']
)
def test_foreign_lines_are_left_out(tmp_path, line):
    path = tmp_path / "x.notes.jsonl"
    path.write_bytes(line.encode("latin-1") + b"\n")
    notes.append(path, Note(unit=0, time=EARLY, rating=1))
    assert list(notes.latest(path)) == [0]


@pytest.mark.parametrize("fields", [{"rating": 0}, {"rating": 6}, {"comment": "x" * 4001}])
def test_what_a_note_cannot_be(fields):
    with pytest.raises(ConfigError):
        Note(unit=0, time=EARLY, **fields)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write"):
        notes.append(tmp_path / "file" / "x.notes.jsonl", Note(unit=0, time=EARLY, label="x"))


def test_lines_of_several_processes_never_mix(tmp_path):
    path = tmp_path / "x.notes.jsonl"
    program = (
        "import sys\nfrom pathlib import Path\nfrom apps import notes\n"
        "for n in range(60): notes.append(Path(sys.argv[1]), "
        "notes.Note(unit=n, time=sys.argv[2], comment=sys.argv[2] * 300))\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, str(path), str(who)], env=os.environ)
        for who in range(2)
    ]
    assert [process.wait() for process in running] == [0, 0]
    # An empty line is what a process leaves that saw the other's line half written.
    lines = [line for line in path.read_text().splitlines() if line]
    assert len([json.loads(line) for line in lines]) == 120
    assert len(notes.history(path)) == 120


def test_a_note_is_written_on_its_units_page(own, show):
    unit = f"{ADDRESS}/{LATENTS}/3"
    at = show("unit", unit=unit)
    at.text_input(key=f"label-{unit}").input("<script>kings</script>")
    at.text_area(key=f"comment-{unit}").input("only *before* verbs")
    at.select_slider(key=f"rating-{unit}").set_value(4)
    at.button[[b.label for b in at.button].index("Save")].click().run()
    assert not at.exception
    path = own.units(MODEL, SITE, LATENTS).with_name(f"{LATENTS}.notes.jsonl")
    found = notes.latest(path)[3]
    assert (found.label, found.rating, found.comment) == (
        "<script>kings</script>", 4, "only *before* verbs",
    )  # fmt: skip
    page = shown(show("unit", unit=unit))
    assert "&lt;script&gt;kings" in page
    assert "<script>" not in page
    assert "★★★★" in page
    assert "kings" not in shown(show("unit", unit=f"{ADDRESS}/{LATENTS}/4"))
    listed = show("units", basis=LATENTS, sort="index", ascending="true").dataframe[0].value
    assert "★★★★ <script>kings</script>" in set(listed["label"])
    noted = show("notes").dataframe[0].value
    assert list(noted["unit"]) == [unit]
    assert "1 of 1 notes" in shown(show("notes", words="KINGS"))
    assert not show("notes", words="nothing like it").dataframe


def test_a_note_on_another_version_of_the_table_says_so(own, show):
    path = notes.path_of(own.units(MODEL, SITE, LATENTS))
    notes.append(path, Note(unit=3, time=EARLY, label="old", table="another key"))
    page = shown(show("unit", unit=f"{ADDRESS}/{LATENTS}/3"))
    assert "noted on another version of this table" in page
    assert "notes.jsonl" not in shown(show())  # no unit table, so none that is unreadable


def test_no_notes_yet(full, show):
    assert "No note yet" in shown(show("notes"))
