"""Jobs: real processes with a record that outlive who started them; the forms they come from."""

import contextlib
import io
import json
import os
import shlex
import subprocess
import time

import pytest

from apps import fields, forms, jobs
from interp.config import field_docs, field_types
from interp.errors import ConfigError, FormatError, UnknownName
from interp.files import write_json
from interp.sae import TrainConfig, architectures
from interp.workspace import Workspace
from tests.apps.conftest import shown
from tests.apps.workspace import MODEL, SITE


def wait(job, *states, seconds=120):
    """The job once it is in one of the states."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = jobs.read(job.path)
        if found.state in states:
            return found
        time.sleep(0.05)
    raise AssertionError(f"still {found.state} after {seconds} s: {jobs.tail(found)}")


@pytest.fixture
def asked_here(monkeypatch):
    """`apps.fields` asked in this process, which has torch already; the code is the same."""

    def ask(words):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = fields.main(words)
            except SystemExit as error:  # argparse's way to refuse
                code = int(error.code or 0)
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    monkeypatch.setattr(forms, "_ask", ask)
    forms.known.clear()
    yield
    forms.known.clear()


# -- jobs -----------------------------------------------------------------------------------------


def test_a_job_runs_ends_and_is_found_again(workspace):
    workspace.root.mkdir(exist_ok=True)
    job = jobs.start(workspace, "extract", ["--help"])
    ended = wait(job, "finished")
    assert ended.code == 0
    assert any("measure the units" in line.casefold() for line in jobs.tail(ended, 100))
    assert jobs.tail(ended, 100)[0] == "$ interp extract --help"
    assert [each.name for each in jobs.listed(workspace)] == [job.name]
    assert jobs.find(workspace, job.name) == ended
    state = json.loads((job.path / "state.json").read_text())
    assert state["pid"] > 0
    assert state["started"] < state["ended"]
    jobs.forget(ended)
    assert jobs.listed(workspace) == []


def test_a_job_that_fails_says_why_and_can_run_again(workspace):
    workspace.root.mkdir(exist_ok=True)
    job = jobs.start(workspace, "extract", ["--shifts=x", "--", "none", "$(touch pwned)"])
    failed = wait(job, "failed")
    assert failed.code == 2
    assert "--shifts" in jobs.tail(failed)[-1]
    again = wait(jobs.resume(workspace, failed), "failed")
    assert again.asked > failed.asked
    heads = [line for line in jobs.tail(again, 100) if line.startswith("$ ")]
    assert heads == ["$ interp extract --shifts=x -- none '$(touch pwned)'"] * 2
    assert shlex.split(again.command)[-1] == "$(touch pwned)"


def test_a_job_is_interrupted_and_asked_twice_killed(workspace, tmp_path, monkeypatch):
    workspace.root.mkdir(exist_ok=True)
    # Python runs this first in every process: the jobs sleep long enough to be stopped.
    held = 'import sys, time\nif "--help" in sys.orig_argv: time.sleep(100)\n'
    (tmp_path / "sitecustomize.py").write_text(held)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    first, second = (jobs.start(workspace, "capture", ["--help"]) for _ in range(2))
    wait(first, "running")
    jobs.cancel(first)
    jobs.cancel(second)
    jobs.cancel(second)
    assert wait(first, "cancelled").code != 0
    killed = wait(second, "cancelled")
    assert killed.code not in (0, 130)
    assert not killed.cancelling


def test_a_supervisor_that_is_gone_leaves_a_job_broken_off(workspace, no_start, monkeypatch):
    job = jobs.start(workspace, "train", ["--", MODEL, SITE])
    assert job.state == "starting"
    write_json(job.path / jobs.STATE, {"pid": 1, "started": "2026-01-01T00:00:00+00:00"})
    assert jobs.read(job.path).state == "broken off"
    (job.path / jobs.STATE).unlink()
    monkeypatch.setattr(jobs, "GRACE", -1.0)
    assert jobs.read(job.path).state == "broken off"


def test_only_these_verbs_and_only_inside_the_workspace(workspace, no_start):
    with pytest.raises(UnknownName, match="train"):
        jobs.start(workspace, "demo", [])
    for name in ("../../etc", "..", "a/../../b", ""):
        with pytest.raises(ConfigError):
            jobs.find(workspace, name)
    assert not no_start


@pytest.mark.parametrize(
    "record",
    [
        "[1",
        "{}",
        '{"format": "interp-job", "version": 1, "verb": "train"}',
        '{"format": "interp-job", "version": 1, "verb": "app", "arguments": [], "asked": "2026"}',
    ],
)
def test_a_damaged_record_is_left_out(workspace, no_start, record):
    job = jobs.start(workspace, "train", [])
    (job.path / jobs.RECORD).write_text(record)
    assert jobs.listed(workspace) == []
    with pytest.raises(FormatError):
        jobs.find(workspace, job.name)


def test_reach_is_the_last_line_that_says_so(workspace, no_start):
    job = jobs.start(workspace, "train", [])
    assert jobs.reach(job) is None
    (job.path / jobs.LOG).write_bytes(
        b"train topk s:   7% of 4,000 tok, 1234 s left  loss 0.5\n"
        b"train topk s: 100% of 4,000 tok, 0 s left  loss 0.2 \xff\nfinishing\n"
    )
    found = jobs.reach(job)
    assert (found.label, found.share, found.left) == ("train topk s", 1.0, 0)
    assert found.note.startswith("loss 0.2")
    (job.path / jobs.LOG).write_text(
        "disentangle 3:  40% of 96 rows or windows, 2 s left  sense 1\n"
    )
    found = jobs.reach(job)
    assert (found.label, found.share, found.note) == ("disentangle 3", 0.4, "sense 1")


# -- forms ----------------------------------------------------------------------------------------


def test_fields_are_those_of_the_classes():
    told = fields.forms()["train"]
    assert list(told) == ["", *architectures()]
    for name, config in {"": TrainConfig, **architectures()}.items():
        assert [each["name"] for each in told[name]] == list(field_types(config))
        for each in told[name]:
            assert each["help"] == field_docs(config).get(each["name"], "")
            made = getattr(config(), each["name"])
            assert each["default"] == (list(made) if isinstance(made, tuple) else made)


def test_only_what_differs_becomes_a_flag():
    told = {each["name"]: each for each in fields.forms()["train"]["matryoshka"]}
    assert forms.flag(told["k"], 32) == []
    assert forms.flag(told["k"], -3) == ["--k=-3"]
    assert forms.flag(told["start_k"], None) == []
    assert forms.flag(told["frozen_decoder"], True) == ["--frozen-decoder"]
    assert forms.flag(told["prefixes"], "0.5, 1") == ["--prefixes", "0.5", "1"]
    usual = " ".join(f"{each:g}" for each in told["prefixes"]["default"])
    assert forms.flag(told["prefixes"], usual) == []
    assert forms.flag({**told["frozen_decoder"], "default": True}, False) == ["--no-frozen-decoder"]


def test_the_form_shows_the_settings_own_refusal(full, show, asked_here, no_start):
    at = show("jobs", verb="train")
    assert at.number_input(key="train-batchtopk-k").value == 32
    at.number_input(key="train-batchtopk-k").set_value(0)
    _press(at, "Start training")
    assert "k must be at least 1, got 0" in shown(at)
    assert not no_start


def test_the_form_starts_what_it_says(own, show, asked_here, no_start):
    at = show("jobs", verb="train")
    at.number_input(key="train-batchtopk-k").set_value(2)
    at.number_input(key="train-tokens").set_value(4000)
    at.text_input(key="train-out").set_value("../../out")
    _press(at, "Start training")
    assert not at.exception
    (job,) = no_start
    assert job.arguments == (
        "--architecture=batchtopk", "--out=../../out", "--k=2", "--tokens=4000", "--", MODEL, SITE,
    )  # fmt: skip
    assert at.query_params["job"] in (job.name, [job.name])
    assert job.path.parent == own.root / "jobs"
    assert "starting" in shown(at)
    assert "running; cancel it first" not in shown(at)


def test_forms_of_capture_and_extract(own, show, asked_here, no_start):
    at = show("jobs", verb="capture")
    _press(at, "Start capture")
    assert "name a model and at least one site" in shown(at)
    at.selectbox(key="capture-model").set_value(MODEL)
    at.text_input(key="capture-sites").set_value("resid_post.0 --workspace=/")
    at.number_input(key="capture-heldout").set_value(1.5)
    _press(at, "Start capture")
    assert "heldout must be at least 0 and below 1" in shown(at)
    at.number_input(key="capture-heldout").set_value(0.25)
    _press(at, "Start capture")
    assert no_start[0].arguments[-4:] == ("--", MODEL, "resid_post.0", "--workspace=/")
    at = show("jobs", verb="extract")
    at.multiselect(key="extract-bases").set_value(["neurons", "random"])
    at.toggle(key="extract-lens").set_value(False)
    _press(at, "Start extraction")
    assert no_start[1].arguments == (
        "--no-model",
        "--bases",
        "neurons",
        "random",
        "--",
        MODEL,
        SITE,
    )


def test_the_form_of_disentangle_takes_its_neuron_from_the_link(own, show, asked_here, no_start):
    at = show("jobs", verb="disentangle")
    _press(at, "Start")
    assert "name a neuron" in shown(at)
    unit = f"{MODEL}/{SITE}/neurons/5"
    at = show("jobs", verb="disentangle", unit=unit, dictionary="topk")
    at.number_input(key="disentangle-carriers").set_value(0)
    _press(at, "Start")
    assert "carriers must be at least 1, got 0" in shown(at)
    at.number_input(key="disentangle-carriers").set_value(3)
    at.toggle(key="disentangle-effect").set_value(False)
    _press(at, "Start")
    (job,) = no_start
    assert job.arguments == ("--carriers=3", "--no-model", "--dictionary=topk", "--", unit)


def test_the_page_of_jobs(own, show, no_start):
    assert "No job yet" in shown(show("jobs"))
    assert "unknown job" in shown(show("jobs", job="nothing"))
    assert "cannot name a file" in shown(show("jobs", job="../../secret"))
    job = jobs.start(Workspace.at(), "train", ["--out=<img src=x onerror=1>"])
    write_json(job.path / jobs.STATE, {"pid": 1, "code": 1, "cancelled": False})
    (job.path / jobs.LOG).write_text("interp train: <script>no space left</script>\n")
    at = show("jobs", job=job.name)
    page = shown(at)
    assert ">failed<" in page
    assert "&lt;img src=x" in page
    assert "<img" not in page
    assert "no space left" in page
    at.button(key=f"resume-{job.name}").click().run()
    assert not at.exception
    assert len(no_start) == 2
    assert "starting" in shown(at)
    at.button(key=f"cancel-{job.name}").click().run()
    assert jobs.cancellations(job.path) == 1


def test_home_shows_what_is_under_way(own, show, no_start):
    assert "Jobs under way" not in shown(show())
    job = jobs.start(Workspace.at(), "train", [])
    (job.path / jobs.LOG).write_text("train topk s:  40% of 4,000 tok, 12 s left  loss 0.5\n")
    at = show()
    assert "Jobs under way" in shown(at)
    assert "train topk s: 40%, 12 s left · loss 0.5" in [
        each.proto.text.replace("\\", "") for each in at.get("progress")
    ]


def test_a_verb_that_no_form_has(full, show, asked_here):
    assert "Choose one" in shown(show("jobs", verb="demo"))


def test_settings_that_cannot_be_read_are_said(full, show, monkeypatch):
    broken = subprocess.CompletedProcess([], 1, "", "ModuleNotFoundError: no torch here")
    monkeypatch.setattr(forms, "_ask", lambda words: broken)
    forms.known.clear()
    assert "the settings cannot be read: ModuleNotFoundError" in shown(show("jobs", verb="train"))


def test_forms_without_a_store(workspace, show, asked_here):
    assert "capture one first" in shown(show("jobs", verb="extract"))


def _press(at, label):
    at.button[[button.label for button in at.button].index(label)].click().run()
