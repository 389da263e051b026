"""A fresh workspace in which packaged texts and models are there already."""

import pytest


@pytest.fixture
def furnished(workspace, real_workspace):
    """The default workspace, with links to what `real_workspace` holds; new files stay in it."""
    for kind in ("assets", "corpora", "models"):
        (workspace.root / kind).mkdir(parents=True)
        for path in (real_workspace.root / kind).iterdir():
            if path.is_dir():
                (workspace.root / kind / path.name).symlink_to(path)
    return workspace
