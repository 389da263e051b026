"""The README's commands exist, its links lead somewhere, and its script runs."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from interp.cli import VERBS, verb_parser

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PAGES = [REPOSITORY / name for name in ("README.md", "interp/README.md", "activations/README.md")]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    text = "\n".join(blocks("sh") + blocks("bat"))
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def test_every_interp_command_parses():
    found = [line for line in commands() if line.startswith("interp ")]
    for line in found:
        _, verb, *arguments = shlex.split(line, comments=True)
        verb_parser(verb).parse_args(arguments)
    assert {shlex.split(line)[1] for line in found} == set(VERBS)


def test_every_make_target_exists():
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = {shlex.split(line)[1] for line in commands() if line.startswith("make ")}
    assert {"demo", "test", "setup"} <= targets
    for target in targets:
        assert re.search(rf"^{re.escape(target)}:", makefile, flags=re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name + "/" + page.name)
def test_relative_links_and_pictures_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} points at {target}"


def test_the_architecture_page_has_a_paragraph_for_every_folder():
    text = (REPOSITORY / "interp" / "README.md").read_text(encoding="utf-8")
    for folder in (REPOSITORY / "interp").iterdir():
        if (folder / "__init__.py").exists():
            assert f"`interp/{folder.name}/`" in text, folder.name


def test_the_fifteen_line_script_runs(real_workspace, tmp_path, monkeypatch, capsys):
    """As printed, but on 8,000 tokens, and trained on 60,000."""
    (script,) = blocks("python")
    assert script.count("\n") <= 15
    assert "tokens=300_000" in script
    own = tmp_path / "workspace"  # what the script trains must not stay in the shared one
    own.mkdir()
    for name in ("assets", "models", "corpora"):
        (own / name).symlink_to(real_workspace.root / name)
    monkeypatch.setenv("INTERP_WORKSPACE", str(own))
    monkeypatch.chdir(tmp_path)
    small = script.replace("tokens=300_000", "tokens=8_000")
    small = small.replace("seed=0)", "seed=0, tokens=60_000)")
    small = small.replace('"activations/', f'"{tmp_path}/')
    (tmp_path / "script.py").write_text(small, encoding="utf-8")
    runpy.run_path(str(tmp_path / "script.py"))
    assert "monosemanticity" in capsys.readouterr().out
