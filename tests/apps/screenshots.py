"""Makes the pictures of the app again, light and dark, from the workspace of `interp demo`.

    interp disentangle shakespeare-1l/mlp_post.0/neurons/133
    interp extract shakespeare-1l@0 mlp_post.0
    interp lab run pentagon
    python -m tests.apps.screenshots activations [PAGE ...]

The first three make what the pages Disentangle, Compare and Lab show; nothing else is touched.
"""

import os
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Page, sync_playwright

import apps
from tests.apps.served import CHROMIUM, FLAGS, served

OUT = Path(apps.__file__).parent / "screenshots"
WIDTH, HEIGHT = 1280, 960
SITE = "shakespeare-1l/mlp_post.0"
NEURON = f"{SITE}/neurons/133"
TEXT = "JESSICA.\nI think nobly of the soul, and no man shall tell me no.\n"
PICTURES: dict[str, tuple[str, dict[str, str | list[str]], str]] = {
    "home": ("", {}, ".rows"),
    "units": (
        "units",
        {
            "site": "smollm2-135m/resid_post.9",
            "basis": ["batchtopk-4608-k32-s0", "neurons", "random"],
        },
        "[data-testid=stDataFrame]",
    ),
    "unit": ("unit", {"unit": NEURON}, ".ctx-list"),
    "disentangle": ("disentangle", {"unit": NEURON}, ".heat"),
    "intervene": ("intervene", {"unit": NEURON, "text": TEXT}, ".pair"),
    "compare": (
        "compare",
        {"one": f"{SITE}/neurons", "other": "shakespeare-1l@0/mlp_post.0/neurons"},
        ".st-key-ecdf canvas",
    ),
    "text": ("text", {"site": SITE, "text": TEXT}, ".stratum"),
    "jobs": ("jobs", {"verb": "train"}, "[data-testid=stNumberInput]"),
    "lab": ("lab", {"result": "pentagon"}, "canvas"),
}
"""Per picture its page, what its URL says, and what is there once it is drawn."""


def main(argv: Sequence[str]) -> None:
    """Serve a workspace and write the pictures of some pages, or of all."""
    root, wanted = Path(argv[0]).resolve(), argv[1:] or list(PICTURES)
    os.environ["HOME"] = str(root.parent)  # so that no picture holds this machine's paths
    with served(root) as (base, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for scheme in ("light", "dark"):
            context = browser.new_context(
                viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme
            )
            for name in wanted:
                page = context.new_page()
                page.set_default_timeout(120_000)
                _write(_shot(page, base, name), OUT / f"{name}-{scheme}.png")
                page.close()
        browser.close()


def _shot(page: Page, base: str, name: str) -> bytes:
    path, query, drawn = PICTURES[name]
    page.goto(f"{base}/{path}?{urlencode(query, doseq=True)}")
    page.wait_for_selector(drawn)
    page.wait_for_timeout(2500)  # charts and fonts
    page.wait_for_function(
        "!document.querySelector('[data-testid=stStatusWidget], [data-testid=stSkeleton]')"
    )
    return page.screenshot()


def _write(picture: bytes, path: Path) -> None:
    """As few bytes as the same picture needs."""
    Image.open(BytesIO(picture)).convert("RGB").save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
