"""Tiny models of three families, loaded by us and by transformers, and one trained here."""

import pytest
import torch

from interp.models import load_model
from interp.models.shakespeare import train_shakespeare
from interp.workspace import Workspace
from tests.models.plays import CONFIG, plays, workspace_at
from tests.models.tiny import FAMILIES, VOCABULARY, Tiny, load_reference, save_tiny


@pytest.fixture(scope="session", params=FAMILIES)
def tiny(request, tmp_path_factory) -> Tiny:
    """Each family in turn."""
    folder = tmp_path_factory.mktemp("models") / f"tiny-{request.param}"
    save_tiny(request.param, folder)
    return Tiny(request.param, folder, load_model(str(folder)), load_reference(folder))


@pytest.fixture(scope="session")
def tokens() -> torch.Tensor:
    """Two windows of random ids."""
    draw = torch.Generator().manual_seed(3)
    return torch.randint(0, VOCABULARY, (2, 9), generator=draw)


@pytest.fixture
def place(tmp_path) -> Workspace:
    return workspace_at(tmp_path / "workspace", plays())


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Workspace:
    """Trained once, in one go; read only."""
    workspace = workspace_at(tmp_path_factory.mktemp("trained"), plays())
    train_shakespeare(CONFIG, workspace)
    return workspace
