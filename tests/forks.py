"""Children forked from one clean process that has imported everything once.

One such process serves all tests, and what it imports is the last thing anyone asked of it: so it
is asked here, once, for all of them.
"""

import multiprocessing
import sys

FORKS = None if sys.platform == "win32" else multiprocessing.get_context("forkserver")
IMPORTED = ["pytest", "tests.capture.tiny", "tests.sae.shared", "interp.sae.trainer"]
if FORKS is not None:
    FORKS.set_forkserver_preload(IMPORTED)
