"""What importing the package does."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("set_by_the_user", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_are_to_wait_without_spinning_before_torch_is_loaded(
    set_by_the_user: str | None, expected: str
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    if set_by_the_user:
        environment["OMP_WAIT_POLICY"] = set_by_the_user
    code = "import interp, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == [expected, "False"]
