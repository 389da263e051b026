"""What every test shares: no hub, quiet threads, and a fresh workspace on demand."""

import os

import pytest

# Before torch or transformers are imported anywhere.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """An empty workspace that is also the default one."""
    from interp.workspace import Workspace

    monkeypatch.setenv("INTERP_WORKSPACE", str(tmp_path / "workspace"))
    return Workspace.at()
