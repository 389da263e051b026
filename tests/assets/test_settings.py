"""pip's own settings decide where a file is looked for."""

import os

import pytest

from interp.assets import settings
from interp.assets.settings import read_settings
from interp.errors import AssetError


@pytest.fixture
def variables(tmp_path):
    """An environment whose only pip settings are those of ``pip.conf`` here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return kept | {
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "XDG_CONFIG_DIRS": str(tmp_path),
    }


def test_file_then_variables(variables, tmp_path):
    (tmp_path / "pip.conf").write_text(
        "[global]\n"
        "index-url = http://global.invalid/simple/\n"
        "find-links =\n    /first\n    http://page.invalid/second\n"
        "proxy = http://proxy.invalid:1\n"
        "cert = /certificates\n"
        "[download]\n"
        'index-url = http://me:it\'s"100%25"@download.invalid/simple/\n'
        "extra-index-url = http://one.invalid/ http://two.invalid\n"
        "[install]\n"
        "proxy = http://wrong.invalid:2\n"
    )
    found = read_settings(variables)
    assert found.indexes == (
        "http://one.invalid",
        "http://two.invalid",
        'http://me:it\'s"100%25"@download.invalid/simple',
    )
    assert found.find_links == ("/first", "http://page.invalid/second")
    assert (found.proxy, found.cert) == ("http://proxy.invalid:1", "/certificates")
    variables |= {
        "PIP_INDEX_URL": "http://variable.invalid",
        "PIP_EXTRA_INDEX_URL": "http://variable.invalid/",
        "PIP_FIND_LINKS": "/other",
        "PIP_CERT": "/mine",
    }
    found = read_settings(variables)
    assert found.indexes == ("http://variable.invalid",)
    assert (found.find_links, found.cert) == (("/other",), "/mine")


@pytest.mark.parametrize(
    ("word", "none"), [("1", True), ("true", True), ("Yes", True), ("0", False), ("", False)]
)
def test_no_index(variables, word, none):
    variables |= {"PIP_INDEX_URL": "http://x.invalid", "PIP_NO_INDEX": word}
    assert (read_settings(variables).indexes == ()) is none


def test_a_malformed_file_of_settings_leaves_the_variables(variables, tmp_path):
    (tmp_path / "pip.conf").write_text("index-url = http://no-section.invalid\n")
    variables["PIP_INDEX_URL"] = "http://x.invalid"
    assert read_settings(variables).indexes == ("http://x.invalid",)


def test_pip_is_asked_for_its_default_and_only_then(monkeypatch):
    asked: list[list[str]] = []

    def pip(arguments: list[str], variables: object) -> str:
        asked.append(arguments)
        return "http://default.invalid/simple/\n" if "-c" in arguments else ""

    monkeypatch.setattr(settings, "_pip", pip)
    assert read_settings({}).indexes == ("http://default.invalid/simple",)
    asked.clear()
    assert read_settings({"PIP_INDEX_URL": "http://x.invalid"}).indexes == ("http://x.invalid",)
    assert [arguments[0] for arguments in asked] == ["-m"]


def test_without_pip_and_settings_there_is_a_sentence(monkeypatch):
    monkeypatch.setattr(settings.sys, "executable", os.devnull)
    with pytest.raises(AssetError, match=r"pip is not installed.*PIP_INDEX_URL"):
        read_settings({})
    assert read_settings({"PIP_EXTRA_INDEX_URL": "http://x.invalid"}).indexes == (
        "http://x.invalid",
    )


@pytest.mark.parametrize("turn", [1, -1])
def test_the_nearer_section_counts_whatever_the_order(monkeypatch, turn):
    lines = ["global.index-url='http://g.invalid'", "download.index-url='http://d.invalid'"]
    lines += ["install.index-url='http://i.invalid'", "global.proxy=rubbish", "no line"]
    monkeypatch.setattr(settings, "_pip", lambda *_: "\n".join(lines[::turn]))
    assert read_settings({}).indexes == ("http://d.invalid",)
