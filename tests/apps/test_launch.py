"""The launcher's command line: this machine only, no statistics, the workspace it was given."""

import os
import sys
import tomllib
from pathlib import Path

from apps import launch


def test_command_binds_to_this_machine_and_sends_nothing():
    line = launch.command(8600, headless=True)
    assert line[:4] == [sys.executable, "-m", "streamlit", "run"]
    assert Path(line[4]).name == "browser.py"
    flags = dict(flag.removeprefix("--").split("=") for flag in line[5:])
    assert flags["server.address"] == "127.0.0.1"
    assert flags["browser.gatherUsageStats"] == "false"
    assert flags["server.port"] == "8600"
    assert flags["server.headless"] == "true"


def test_environment_names_workspace_and_package(tmp_path):
    values = launch.environment(
        tmp_path / "ws", {"PYTHONPATH": f"/elsewhere{os.pathsep}", "A": "b"}
    )
    assert values["INTERP_WORKSPACE"] == str((tmp_path / "ws").resolve())
    assert values["PYTHONPATH"].split(os.pathsep)[1:] == ["/elsewhere"]
    assert (Path(values["PYTHONPATH"].split(os.pathsep)[0]) / "apps" / "browser.py").is_file()
    assert values["A"] == "b"


def test_configuration_beside_the_script_is_as_safe():
    path = launch.HERE / ".streamlit" / "config.toml"
    config = tomllib.loads(path.read_text(encoding="utf-8"))
    assert config["server"]["address"] == "127.0.0.1"
    assert config["server"]["allowedHosts"] == ["localhost", "127.0.0.1"]
    assert config["browser"]["gatherUsageStats"] is False
    assert {"light", "dark"} <= set(config["theme"])
