"""A workspace of each kind, and pages run as Streamlit runs them."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

import apps
from apps import jobs
from interp.workspace import Workspace
from tests.apps import workspace as generator
from tests.apps.served import CHROMIUM, FLAGS, Visit, served

SCRIPT = str(Path(apps.__file__).parent / "browser.py")
Open = Callable[..., AppTest]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A complete workspace; tests that change it copy it."""
    return generator.build(tmp_path_factory.mktemp("app") / "workspace")


@pytest.fixture
def full(built: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The complete workspace as the app's own."""
    monkeypatch.setenv("INTERP_WORKSPACE", str(built.root))
    return built


@pytest.fixture
def own(built: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A copy of the complete workspace, to damage."""
    shutil.copytree(built.root, tmp_path / "own")
    monkeypatch.setenv("INTERP_WORKSPACE", str(tmp_path / "own"))
    return Workspace.at()


@pytest.fixture
def no_start(monkeypatch: pytest.MonkeyPatch) -> list[jobs.Job]:
    """The jobs that would be started, instead of starting them."""
    begun: list[jobs.Job] = []
    monkeypatch.setattr(jobs, "_launch", lambda workspace, path: begun.append(jobs.read(path)))
    return begun


@pytest.fixture
def show() -> Open:
    """Run a page with query parameters and insist that it shows no traceback."""

    def open_page(page: str = "home", /, **query: str | list[str]) -> AppTest:
        at = AppTest.from_file(SCRIPT, default_timeout=30)
        # AppTest switches to pages that are files; ours are functions, known by their URL.
        at._page_hash = calc_hash("" if page == "home" else page)
        at.query_params.update(query)
        at.run()
        assert not at.exception, at.exception[0].value
        return at

    return open_page


def shown(at: AppTest) -> str:
    """All HTML and text of a page."""
    blocks = [str(getattr(element, "body", "")) for element in at.get("html")]
    for kind in ("markdown", "caption", "info", "warning", "error", "title", "subheader", "code"):
        blocks += [str(getattr(element, "value", "")) for element in at.get(kind)]
    return os.linesep.join(blocks)


# -- in a browser ---------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def site_root(built: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The workspace of the served app: the complete one, and a table of 100,000 units."""
    root = tmp_path_factory.mktemp("served") / "workspace"
    shutil.copytree(built.root, root)
    generator.write_many(Workspace(root), 100_000)
    return Workspace(root)


@pytest.fixture(scope="session")
def site(site_root: Workspace) -> Iterator[str]:
    """The app, served."""
    with served(site_root.root) as (base, _):
        yield base


@pytest.fixture(scope="module")
def browser():
    """Chromium, once for the module."""
    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH; set CHROMIUM to a Chromium's path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, site) -> Iterator[Visit]:
    """A fresh page; afterwards it must have stayed on this machine and without errors."""
    context = browser.new_context(viewport={"width": 1360, "height": 1000})
    seen = Visit(context.new_page(), site)
    yield seen
    context.close()
    assert seen.foreign == []
    assert seen.errors == []
