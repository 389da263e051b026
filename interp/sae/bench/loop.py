"""What every contestant does: steps over the same rows, timed one by one, and then a measurement.

This file stands alone, with torch and numpy only, so that other environments can import it.

1. Load the rows and what torch loads late, then count memory from here on.
2. Step over the batches again and again. Only the step is timed. The first is not counted: it may
   load or make machine code. Beside the median stand the fastest step and the processors' time, of
   all threads, in the process and for it in the system: where those do not account for the median,
   the machine had other work, and where the system's is large, steps asked for fresh memory.
3. After ``steps`` steps measure the held-out rows; go on until the steps have taken ``seconds``
   together (and ``steps`` are done), and measure again: after equal steps, after equal time.

4. If ``explain`` names a file of rows, write their reconstructions to the file ``explained``.

Held-out: FVE = 1 - Σ‖x - x̂‖² / Σ‖x - x̄‖², and L0. Dead is the share of latents that are active on
none of the held-out rows, nor of those in the file ``more``, if there is one: a rare latent is not
dead, and it takes many rows to tell. A rule over a batch takes the held-out rows as its batch, and
of the others as many at a time.
"""

import ctypes
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch


@runtime_checkable
class Contestant(Protocol):
    """A dictionary in training."""

    def step(self, x: torch.Tensor) -> None:
        """One optimiser step on a batch."""

    def explain(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The reconstruction of rows, and their latents [n, latents]."""
        ...


def main(build: Callable[[dict[str, Any]], Contestant]) -> None:
    """Run a contestant on the settings that the command line gives, and print what it measured."""
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(settings["threads"])
    if settings["permission"] != "none":  # by which torch takes another matrix library
        cast(Any, torch.backends.mkldnn).matmul.fp32_precision = settings["permission"]
    torch.manual_seed(settings.get("seed", 1))
    rows = torch.from_numpy(np.load(settings["train"]))
    heldout = torch.from_numpy(np.load(settings["heldout"]))
    more = torch.from_numpy(np.load(settings["more"])) if "more" in settings else heldout[:0]
    load_late_parts()
    forget_peak()
    before = peak_bytes()
    contestant = build(settings)
    taken: list[Any] = []
    spent, after_steps, most = 0.0, 0.0, 0
    while len(taken) <= settings["steps"] or spent < settings["seconds"]:
        start = len(taken) * settings["batch"] % (len(rows) - settings["batch"] + 1)
        batch = rows[start : start + settings["batch"]].clone()
        begun = now()
        contestant.step(batch)
        taken.append(now() - begun)
        spent = sum(each[0] for each in taken[1:])
        if len(taken) == settings["steps"] + 1:
            most = peak_bytes() - before  # what measuring takes does not count
            after_steps = measured(contestant, heldout)["fve"]
            give_back()
            forget_peak()
    most = max(most, peak_bytes() - before)
    found = measured(contestant, heldout, more)
    counted = 1e3 * np.array(taken[1:])
    middle, fastest = np.median(counted, axis=0).tolist(), counted.min(axis=0).tolist()
    result = {
        "step_ms": middle[0],
        "fastest_ms": fastest[0],
        "user_ms": middle[1],
        "system_ms": middle[2],
        "steps": len(taken),
        "fve_steps": after_steps,
        "fve_seconds": found["fve"],
        "l0": found["l0"],
        "dead": found["dead"],
        "memory_mb": most / 2**20,
    }
    if "explain" in settings:
        with torch.no_grad():
            estimate, _ = contestant.explain(torch.from_numpy(np.load(settings["explain"])))
        np.save(settings["explained"], estimate.numpy())
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def now() -> Any:
    """Seconds by the clock; of processors, in this process and in the system on its behalf."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return np.array([time.perf_counter(), used.ru_utime, used.ru_stime])


@torch.no_grad()
def measured(
    contestant: Contestant, x: torch.Tensor, more: torch.Tensor | None = None
) -> dict[str, float]:
    """FVE and L0 on the held-out rows; the share of latents that no row rouses, nor one of more."""
    estimate, z = contestant.explain(x)
    active = z > 0
    roused = active.any(dim=0)
    for some in () if more is None else more.split(len(x)):
        roused |= (contestant.explain(some)[1] > 0).any(dim=0)
    left = (x - estimate).double().square().sum() / (x - x.mean(dim=0)).double().square().sum()
    return {
        "fve": 1 - float(left),
        "l0": float(active.sum()) / len(x),
        "dead": 1 - float(roused.float().mean()),
    }


def load_late_parts() -> None:
    """Let torch load what it loads with the first optimiser: some 200 MB that are no trainer's."""
    weight = torch.nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    torch.optim.Adam([weight]).step()


def give_back() -> None:
    """Return freed memory to the system, where the C library can, so that it is not counted."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return


def forget_peak() -> None:
    """Let the kernel count peak memory anew, where it can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_bytes() -> int:
    """Most memory that the process has held since then."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024
