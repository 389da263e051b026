"""What is installed: the library, the command and the app; no tests, no data."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The distribution, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("interp", "apps", "tests"):
        shutil.copytree(
            REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    subprocess.run([*pip, str(folder), str(source)], check=True, capture_output=True)
    (path,) = folder.glob("interp_workbench-*.whl")
    return path


def test_the_wheel_holds_interp_and_apps_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"interp", "apps"}
    for needed in (
        "interp/py.typed",
        "interp/cli/demo.py",
        "interp/sae/kinds/batchtopk.py",
        "apps/browser.py",
        "apps/style.css",
        "apps/.streamlit/config.toml",
    ):
        assert needed in names
    assert {Path(name).suffix for name in names} <= {
        ".py", ".typed", ".md", ".css", ".js", ".toml", ".txt", "",
    }  # fmt: skip
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_installed_command_answers_without_its_dependencies(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    (entry,) = tmp_path.glob("*.dist-info/entry_points.txt")
    assert "interp = interp.cli:main" in entry.read_text()
    done = subprocess.run(
        [sys.executable, "-S", "-m", "interp", "--version"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("interp 0.")
