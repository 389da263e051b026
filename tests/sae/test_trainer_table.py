"""The table of what is asked of a training step: verdicts by figures, parts measured once."""

from collections import Counter

import pytest

from interp.files import read_json
from interp.sae.bench import KINDS
from tests.benchmarks import trainer
from tests.benchmarks.trainer import GROWTH, markdown, parts, rows

LISTED = ("topk", "batchtopk", "matryoshka")


def figure(kind: str, name: str, ms: float, **others: float) -> dict:
    plain = {"memory_mb": 100.0, "fve_seconds": 0.5, "dead": 0.0, "l0": 32.0}
    return {"kind": kind, "trainer": name, "step_ms": ms} | plain | others


def contest() -> list[dict]:
    """Ours 100 ms and 100 MB, bfloat16 50 ms; peers of 450 and 1,000 ms, 400 and 150 MB."""
    found = []
    for kind in KINDS:
        found += [figure(kind, "ours, textbook", 900.0), figure(kind, "ours, compiled", 100.0)]
        if kind in LISTED:
            found.append(figure(kind, "ours, compiled-bfloat16", 50.0))
        found.append(figure(kind, "SAELens", 1000.0, memory_mb=150.0, fve_seconds=0.2))
        found.append(figure(kind, "dictionary_learning", 450.0, memory_mb=400.0, fve_seconds=0.3))
    return found


@pytest.fixture
def found() -> dict:
    bound = {"reached": 0.66, "bound_ms": 54.0, "parts_ms": {"encode": 50.0, "update": 6.0}}
    both = [
        {"label": "commands", "steps": 50, "share": 0.62, "one_s": 55.0, "eight_s": 90.0},
        {"label": "calls", "steps": 50, "share": 0.9, "one_s": 40.0, "eight_s": 45.0},
    ]
    contests = ["steps", "same-products", "wide", *(f"growth, {name}" for name in GROWTH)]
    return {**{name: contest() for name in contests}, "bound": bound, "together": both}


def test_the_parts_are_those_that_the_table_reads(found):
    assert set(parts([], quick=True)) == set(found)


def test_a_row_says_who_was_measured_and_whether_it_was_met(found):
    table = {row.work: row for row in rows(found)}
    fastest = table["TopK, float32, against the fastest peer"]
    assert fastest.measured == "4.5x (100 against 450 ms of dictionary_learning)"
    assert fastest.met is True
    assert table["against SAELens"].measured.startswith("10.0x")
    assert table["against SAELens"].met is False
    assert table["TopK, bfloat16 search, exact"].measured.startswith("9.0x (50 against 450 ms")
    assert table["of the sparse bound"].met is False
    memory = table["topk: memory against the leanest peer"]
    assert memory.measured == "0.67 (100 and 150 MB of SAELens)"
    assert memory.met is False
    assert table["topk, compiled: FVE after equal time"].met is True
    assert Counter(row.met for row in table.values() if "eight" in row.work) == {True: 1, False: 1}
    assert table["growth: batch 1,024"].met is None
    assert "gpu" in table["H200: 65,536 latents of width 2,304, bfloat16"].measured


@pytest.mark.parametrize(
    ("l0", "work", "asked"), [(150.0, "sparse", "3x"), (900.0, "dense", "1.5x")]
)
def test_penalties_are_asked_for_less_while_they_are_dense(found, l0, work, asked):
    (own,) = (
        one for one in found["steps"] if (one["kind"], one["trainer"]) == ("l1", "ours, compiled")
    )
    own["l0"] = l0
    (row,) = (row for row in rows(found) if row.work.startswith(f"l1, {work}"))
    assert row.asked == asked


def test_dead_latents_above_two_percent_are_a_miss(found):
    for one in found["steps"]:
        one["dead"] = 0.03
    dead = [row for row in rows(found) if "dead" in row.work]
    assert len(dead) == 2 * len(LISTED)
    assert all(row.met is False for row in dead)


def test_without_peers_nothing_is_said_to_be_met_or_missed(found):
    for name, part in found.items():
        if name not in ("bound", "together"):
            found[name] = [one for one in part if one["trainer"].startswith("ours")]
    (row,) = (row for row in rows(found) if row.work.startswith("TopK, float32"))
    assert (row.measured, row.met) == ("no peer was measured", None)
    text = markdown(list(rows(found)))
    assert "**missed**" in text  # the bound, which is of ours alone


def test_a_contestant_that_failed_is_named_and_left_out(found):
    for one in found["steps"]:
        if one["trainer"] in ("dictionary_learning", "ours, compiled-bfloat16"):
            one.clear()
            one.update(kind="topk", trainer="dictionary_learning", error="out of memory")
    (row,) = (row for row in rows(found) if row.work == "TopK, float32, against the fastest peer")
    assert row.measured.startswith("10.0x")
    (row,) = (row for row in rows(found) if row.work == "TopK, bfloat16 search, exact")
    assert (row.measured, row.met) == ("not measured", None)


def test_what_was_measured_is_kept_and_a_broken_call_goes_on(found, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv(trainer.VARIABLE, raising=False)
    asked: list[str] = []

    def measuring(peers, *, quick):
        def part(name):
            def measure(progress):
                asked.append(name)
                if broken and name == "wide":
                    raise KeyboardInterrupt
                return found[name]

            return measure

        return {name: part(name) for name in found}

    monkeypatch.setattr(trainer, "parts", measuring)
    broken = True
    with pytest.raises(KeyboardInterrupt):
        trainer.main(["--out", str(tmp_path)])
    assert asked == ["steps", "same-products", "wide"]
    broken = False
    assert trainer.main(["--out", str(tmp_path)]) == 0
    assert asked == ["steps", "same-products", "wide", *list(found)[2:]]
    assert capsys.readouterr().out.startswith("| work | asked for | measured | |")
    assert trainer.main(["--out", str(tmp_path)]) == 0
    assert len(asked) == 1 + len(found)
    kept = read_json(tmp_path / "bound.json")
    assert kept["figures"] == found["bound"]
    assert kept["by"]["peers"] == []
    trainer.main(["--quick", "--out", str(tmp_path)])  # never taken for the real ones
    assert len(asked) == 1 + 2 * len(found)


def test_a_part_measured_beside_other_peers_is_measured_again(found, tmp_path, monkeypatch):
    monkeypatch.delenv(trainer.VARIABLE, raising=False)
    calls: list[str] = []

    def once(name):
        return lambda progress: calls.append(name) or found[name]

    monkeypatch.setattr(trainer, "parts", lambda peers, quick: {name: once(name) for name in found})
    trainer.main(["--out", str(tmp_path)])
    kept = read_json(tmp_path / "wide.json")
    kept["by"]["peers"] = ["SAELens"]
    trainer.write_json(tmp_path / "wide.json", kept)
    trainer.main(["--out", str(tmp_path)])
    assert calls[len(found) :] == ["wide"]
