"""Runs contestants one after another and gathers what they measured."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from interp.errors import ConfigError, FormatError
from interp.files import read_json
from interp.products import LIBRARIES, library
from interp.progress import Progress, silent

KINDS = ("topk", "batchtopk", "matryoshka", "jumprelu", "l1", "gated")
OURS = {
    "topk": ("dense", "sparse", "compiled", "compiled-bfloat16"),
    "batchtopk": ("dense", "compiled", "compiled-bfloat16"),
    "matryoshka": ("dense", "compiled", "compiled-bfloat16"),
}
"""The ways that each of our architectures is stepped; the others are dense or listed."""
HELDOUT, HELDOUT_MORE = 4096, 61_440
"""Held-out rows, and those beside them that dead latents are told by: 65,536 together."""
FEATURES, ACTIVE = 2304, 20
"""Planted features, and how many of them are in a row on average."""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """What every contestant is given."""

    d_in: int = 576
    """Width of the planted rows."""
    latents: int = 4608
    """Latents of each dictionary."""
    k: int = 32
    """Active latents a row, where an architecture counts them."""
    batch: int = 4096
    """Rows of a step."""
    lr: float = 1e-3
    """Adam's learning rate, the same at every step."""
    seconds: float = 25.0
    """Time that each contestant may spend in its own steps."""
    steps: int = 20
    """Steps after which all are compared at equal steps."""
    batches: int = 256
    """Different batches, held in memory and a temporary folder: 2.4 GB as things stand. With fewer
    than steps, rows are seen again, and FVE after equal time is that of fitting them by heart."""
    threads: int = 0
    """Threads of each contestant; 0 for as many as there are processors."""
    same_products: bool = False
    """Let other trainers multiply by the matrix library that ours choose (`interp.products`)."""

    def __post_init__(self) -> None:
        """Check every setting."""
        for name in ("d_in", "latents", "k", "batch", "steps", "batches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.k > min(self.d_in, self.latents):
            raise ConfigError(f"k={self.k} is more than d_in={self.d_in} or the latents")
        for name in ("lr", "seconds"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be a number > 0, got {getattr(self, name)}")
        if self.threads < 0:
            raise ConfigError(f"threads must not be negative, got {self.threads}")


@dataclass(frozen=True)
class Driver:
    """Another trainer: who it is, which architectures it has, and the command that runs it."""

    name: str
    kinds: tuple[str, ...]
    command: tuple[str, ...]


def drivers(folder: str | Path, python: str | Path) -> list[Driver]:
    """Those that a folder's peers.json names, run by the Python that has them.

    Raises:
        ConfigError: there is no such Python or folder.
        FormatError: peers.json is damaged.
    """
    folder, python = Path(folder), Path(python)
    for path in (folder / "peers.json", python):
        if not path.exists():
            raise ConfigError(f"{path} does not exist; name the peers' Python and drivers' folder")
    try:
        return [
            Driver(name, tuple(one["kinds"]), (str(python), str(folder / one["driver"])))
            for name, one in read_json(folder / "peers.json").items()
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{folder / 'peers.json'} lacks {error}") from error


def contest(
    settings: Contest,
    kinds: Sequence[str] = KINDS,
    peers: Sequence[Driver] = (),
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Every contestant's figures.

    Args:
        settings: what all are given.
        kinds: the architectures.
        peers: other trainers, each for the architectures it has.
        progress: told the contestants done.

    Returns:
        A row each, with ``kind``, ``trainer`` and `loop.main`'s figures, or ``error`` in their
        place.
    """
    entries = [(kind, *one) for kind in kinds for one in _contestants(kind, peers)]
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="interp-bench-") as place:
        progress(0, len(entries), "making rows")
        common = _given(settings, Path(place))
        for number, (kind, name, by, command) in enumerate(entries):
            progress(number, len(entries), f"{kind}: {name}")
            row = {"kind": kind, "trainer": name}
            found.append({**row, **run(command, {**common, "kind": kind, "by": by})})
        progress(len(entries), len(entries))
    return found


def _contestants(kind: str, peers: Sequence[Driver]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Name, backend and command of all that train this kind."""
    command = (sys.executable, "-m", "interp.sae.bench.ours")
    backends = OURS.get(kind, ("dense", "compiled"))
    ours: list[tuple[str, str, tuple[str, ...]]]
    ours = [("ours, textbook" if by == "dense" else f"ours, {by}", by, command) for by in backends]
    return ours + [(peer.name, "", peer.command) for peer in peers if kind in peer.kinds]


def given(
    settings: Contest,
    place: Path,
    train: Float32[np.ndarray, "rows d_in"],
    heldout: Float32[np.ndarray, "some d_in"],
) -> dict[str, Any]:
    """The settings as contestants read them; the rows, as they are to be used, lie in files."""
    np.save(place / "train.npy", train)
    np.save(place / "heldout.npy", heldout)
    mean = train.mean(axis=0, dtype=np.float64).astype(np.float32)
    parts = (train[i : i + settings.batch] for i in range(0, len(train), settings.batch))
    spread = sum(float(np.square(part - mean).sum(dtype=np.float64)) for part in parts) / len(train)
    return {
        **asdict(settings),
        "threads": settings.threads or os.cpu_count(),
        "train": str(place / "train.npy"),
        "heldout": str(place / "heldout.npy"),
        "variance": spread,
        "dead_after": 64 * settings.batch,
        "sparsity_warmup": 50,
        "own": {},
        "strength": 1.0,
        "clip": None,
        "data_init": 0.0,
        "permission": LIBRARIES[library()] if settings.same_products else "none",
    }


def _given(settings: Contest, place: Path) -> dict[str, Any]:
    """Those on planted rows."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((FEATURES, settings.d_in), dtype=np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    train = np.empty((settings.batches * settings.batch, settings.d_in), np.float32)
    for start in range(0, len(train), settings.batch):
        train[start : start + settings.batch] = planted(rng, features, settings.batch)
    heldout = planted(rng, features, HELDOUT)
    scale = np.float32(settings.d_in**0.5 / np.sqrt(np.einsum("rd,rd->r", train, train)).mean())
    train *= scale
    more = [planted(rng, features, HELDOUT) for _ in range(HELDOUT_MORE // HELDOUT)]
    np.save(place / "more.npy", np.concatenate(more) * scale)
    found = given(settings, place, train, heldout * scale)
    return {**found, "more": str(place / "more.npy")}


def planted(rng: np.random.Generator, features: np.ndarray, rows: int) -> np.ndarray:
    """Sparse sums of features, each present with the same probability at 0.5 to 1.5."""
    present = rng.random((rows, len(features)), dtype=np.float32) < ACTIVE / len(features)
    return (present * (rng.random(present.shape, dtype=np.float32) + 0.5)) @ features


def run(command: Sequence[str], settings: dict[str, Any]) -> dict[str, Any]:
    """A contestant's last line, or why there is none.

    ``INTERP_PEERS_PATH`` names what else must lie ahead on the peers' path.
    """
    found = [os.environ.get("INTERP_PEERS_PATH", ""), str(Path(__file__).parent)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(settings["threads"])}
    if command[1] != "-m":  # a driver, which imports `loop` by that name
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, found))
    done = subprocess.run(
        [*command, json.dumps(settings)], capture_output=True, text=True, env=environment
    )
    for line in reversed(done.stdout.splitlines()):
        if line.startswith("{"):
            return json.loads(line)
    last = done.stderr.strip().splitlines()[-1:] or [f"it ended with code {done.returncode}"]
    return {"error": last[0]}
