"""Browsing must not cost torch's import: every page but *Your text* works without it."""

import os
import subprocess
import sys

from tests.apps.conftest import SCRIPT
from tests.apps.workspace import MODEL, SITE

PROGRAM = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "transformer_lens", "sklearn", "altair"):
            raise ImportError(name + " must not be imported here")
sys.meta_path.insert(0, NoTorch())
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash
script, unit = sys.argv[1:]
for page, query in [("", {}), ("units", {}), ("unit", {"unit": unit}), ("training", {}),
                    ("lab", {}), ("notes", {}), ("text", {}), ("compare", {}), ("rate", {}),
                    ("jobs", {}), ("disentangle", {"unit": unit}), ("intervene", {"unit": unit})]:
    at = AppTest.from_file(script, default_timeout=60)
    at._page_hash = calc_hash(page)
    at.query_params.update(query)
    at.run()
    assert not at.exception, at.exception[0].value
assert "torch" not in sys.modules
print("clean")
"""


def test_no_page_imports_torch(full):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, SCRIPT, f"{MODEL}/{SITE}/neurons/3"],
        capture_output=True,
        text=True,
        env={**os.environ, "INTERP_WORKSPACE": str(full.root)},
        check=False,
    )
    assert done.stdout.strip() == "clean", done.stderr[-2000:]
