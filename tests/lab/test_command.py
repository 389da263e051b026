"""`interp lab`: list, run and table, for people and for machines."""

import json
import os
from dataclasses import dataclass

import pytest

from interp.cli import labjobs, main
from interp.errors import FormatError
from interp.files import write_json
from interp.lab import Expected, Experiment, Figure, Measurement, experiments
from interp.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Coin(Experiment):
    """A result that costs nothing; it has no name of its own, so that it is not registered."""

    @classmethod
    def at(cls, effort):
        return cls()

    def expected(self):
        return (
            Expected(quantity="heads", value=0.5, low=0.4, high=0.6),
            Expected(quantity="|edge|", value=1.0, low=0.9, why="it never lands there"),
        )

    def measure(self, seed, progress=None):
        figure = Figure(title="t", kind="line", x="x", y="y", series={"s": [(0.0, 1.0)]})
        values = {"heads": 0.45 + 0.1 * seed, "|edge|": 0.1, "grams": 7.0 + seed}
        return Measurement(values=values, figures=(figure,))


@pytest.fixture
def coin(monkeypatch):
    """`interp lab` knows one result: a coin."""
    from interp.lab import result

    experiments()  # the others register themselves where they stay
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):  # the command sets what is not set
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    Coin.name, Coin.paper, Coin.claim = "coin", "Bernoulli 1713, Ars Conjectandi", "Coins are fair."
    monkeypatch.setattr(result, "_KNOWN", {"coin": Coin})


def test_list_run_and_table(workspace, coin, capsys):
    assert main(["lab", "list"]) == 0
    assert "Coins are fair." in capsys.readouterr().out
    assert main(["lab", "table"]) == 0
    assert "not run" in capsys.readouterr().out
    assert main(["lab", "run", "coin", "--quick", "--seeds", "2"]) == 0  # failing is a result
    out = capsys.readouterr().out
    assert "Bernoulli 1713" in out
    assert "setting (quick): seeds 2" in out
    assert main(["lab", "table"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert " ".join(lines[1].split()) == "coin heads 0.5 0.4 to 0.6 0.5 0.07071 2 pass (quick)"
    assert lines[2].endswith("FAIL, below (quick)  it never lands there")
    grams = "coin grams - anything 7.5 0.7071 2 reported (quick)"
    assert " ".join(lines[3].split()) == grams
    assert "never lands" not in lines[1] + lines[3]


def test_the_table_as_markdown(workspace, coin, capsys):
    assert main(["lab", "table", "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == ["| `coin` | Bernoulli 1713, Ars Conjectandi |  |  |  |  | not run |"]
    assert main(["lab", "run", "coin", "--seeds", "2"]) == 0
    capsys.readouterr()
    assert main(["lab", "table", "--markdown"]) == 0
    header, rule, heads, edge, grams = capsys.readouterr().out.splitlines()
    assert header.count("|") == rule.count("|") == 8
    paper = "Bernoulli 1713, Ars Conjectandi"
    assert heads == f"| `coin` | {paper} | heads | 0.5 | 0.4 to 0.6 | 0.5 | pass (quick) |"
    verdict = "FAIL, below (quick): it never lands there"
    assert edge == rf"|  |  | \|edge\| | 1 | at least 0.9 | 0.1 | {verdict} |"
    assert grams == "|  |  | grams |  | anything | 7.5 | reported (quick) |"


def test_json_is_one_object(workspace, coin, capsys):
    assert main(["lab", "run", "all", "--full", "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert (result["passed"], result["effort"], result["setting"]) == (False, "full", {"seeds": 3})
    assert result["figures"][0]["series"] == {"s": [[0.0, 1.0]]}
    assert main(["lab", "table", "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["results"]["coin"]["provenance"]["job"] == "lab"
    verdicts = ["pass (full)", "FAIL, below (full)", "reported (full)"]
    assert [row["verdict"] for row in table["rows"]] == verdicts
    assert [row["why"] for row in table["rows"]] == ["", "it never lands there", ""]
    (grams,) = table["results"]["coin"]["reported"]
    assert grams == {"quantity": "grams", "values": [7.0, 8.0, 9.0], "mean": 8.0, "spread": 1.0}
    assert main(["lab", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["results"][0]["result"] == "coin"


def test_wrong_use_is_one_sentence(workspace, coin, capsys):
    assert main(["lab", "run"]) == 2
    assert "interp lab list" in capsys.readouterr().err
    assert main(["lab", "run", "dice"]) == 2
    assert "coin" in capsys.readouterr().err
    assert main(["lab", "run", "coin", "--seeds", "0"]) == 2
    assert "seeds must be at least 1" in capsys.readouterr().err


def test_a_result_of_another_version_is_named(workspace, coin):
    from interp.lab import reproduced

    path = workspace.lab("coin") / "result.json"
    write_json(path, {"version": 99})
    with pytest.raises(FormatError, match="version 99"):
        reproduced(workspace)


def test_what_cannot_be_written_is_not_computed(workspace, coin, monkeypatch, capsys):
    workspace.lab("coin").parent.mkdir(parents=True)
    workspace.lab("coin").write_text("a file where a folder must be")
    measured = []
    monkeypatch.setattr(Coin, "measure", lambda self, seed, progress=None: measured.append(seed))
    assert main(["lab", "run", "coin"]) == 1
    assert "is a file where a folder should be" in capsys.readouterr().err
    assert measured == []


def test_results_that_share_their_trainings_share_a_process():
    chosen = [each.at("quick") for each in experiments().values()]
    groups = [[each.name for each in group] for group in labjobs.together(chosen)]
    assert ["grokking", "progress-measures"] in groups
    assert sorted(name for group in groups for name in group) == sorted(experiments())
    assert sum(len(group) > 1 for group in groups) == 1


@pytest.mark.slow
def test_several_at_a_time_write_what_they_write_alone(tmp_path, capsys):
    names = ["fve-definitions", "planted-recovery"]
    apart, alone = Workspace.at(tmp_path / "apart"), Workspace.at(tmp_path / "alone")
    for workspace, jobs in ((apart, "2"), (alone, "1")):
        flags = ["--jobs", jobs, "--workspace", str(workspace.root)]
        assert main(["lab", "run", *names, "--seeds", "1", *flags]) == 0
        printed = capsys.readouterr().out
        for name in names:
            assert f"{workspace.lab(name)}" in printed
    for name in names:
        found = [json.loads((w.lab(name) / "result.json").read_text()) for w in (apart, alone)]
        assert found[0]["checks"] == found[1]["checks"]
        assert found[0]["figures"] == found[1]["figures"]


def test_one_that_fails_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    """A process that cannot write; the other result is there, and what failed is named."""
    root = tmp_path / "w"
    (root / "lab").mkdir(parents=True)
    (root / "lab" / "pentagon").write_text("a file where a folder must be")
    flags = ["--jobs", "2", "--seeds", "1", "--workspace", str(root)]
    assert main(["lab", "run", "pentagon", "fve-definitions", *flags]) == 1
    error = capsys.readouterr().err
    assert "not all results ran to their end; pentagon: " in error
    assert (root / "lab" / "fve-definitions" / "result.json").exists()
