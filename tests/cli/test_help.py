"""Every verb documents itself, and what it documents is true."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from interp.cli import VERBS, _verb, main, verb_parser

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_shows_an_example_that_parses(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "--workspace" in text
    assert "--json" in text
    _, _, examples = text.partition("example:\n")
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    assert lines
    for line in lines:
        program, name, *arguments = shlex.split(line, comments=True)
        assert (program, name) == ("interp", verb)
        verb_parser(verb).parse_args(arguments)


@pytest.mark.parametrize("verb", VERBS)
def test_every_flag_is_explained(verb):
    for action in verb_parser(verb, _verb(verb))._actions:
        assert action.help, f"interp {verb} {action.option_strings or action.dest} has no help"


def test_help_lists_every_verb_without_importing_torch():
    code = (
        "import sys; from interp.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "assert 'torch' not in sys.modules and 'h5py' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    for verb in VERBS:
        assert f"\n  {verb}" in done.stdout


@pytest.mark.parametrize("arguments", [[], ["fly"], ["--fly"], ["train"], ["capture", "--fly"]])
def test_wrong_use_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        sys.exit(main(arguments))
    assert stop.value.code == 2
    assert capsys.readouterr().err
