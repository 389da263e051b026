"""Training steps side by side: ours by each backend, and other trainers in their own environments.

A contestant is a command that is given one JSON object of settings and prints one JSON line of
results; each runs in a process of its own, one after another. So a peer needs none of our packages
and we need none of its: its driver imports `loop.py` beside this file and says how it makes a step.

All are given the same planted rows, width, k, batch, learning rate and threads, and the same time
inside their own steps. What is measured is in `loop.py`.
"""

from interp.sae.bench.contest import KINDS, Contest, Driver, contest, drivers

__all__ = ["KINDS", "Contest", "Driver", "contest", "drivers"]
