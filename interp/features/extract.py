"""Measuring the units of several bases over a store: one table a basis.

1. Each table is made in parts, ranges of units (`interp.features.parts`). All parts of one site
   that fit into memory are made in one pass over the rows (`interp.features.passes`).
2. A table that is already there, made from the same store, the same basis and the same settings, is
   left alone, and so is a part: an extraction that was interrupted continues with what is missing.
3. Processes that run the same extraction, under torchrun or by themselves, share the parts. The
   tables' bytes do not depend on how many there are.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from interp.config import to_dict
from interp.errors import ConfigError, DataError, FormatError
from interp.features.bases import Basis, DictionaryBasis, written_site
from interp.features.config import ExtractConfig
from interp.features.find import finished_dictionary
from interp.features.logits import Lens
from interp.features.measure import SCORES
from interp.features.parts import Job, claimed, join
from interp.features.passes import BYTES, Passes
from interp.features.spill import is_sparse
from interp.features.table import VERSION, UnitTable
from interp.features.units import Units
from interp.products import faster_products
from interp.progress import Progress, silent
from interp.sae import Dictionary
from interp.store import ActivationStore
from interp.workspace import Workspace

POLL = 0.2
"""Seconds between two looks at what other processes have made."""


@faster_products()
def extract(
    bases: Sequence[Basis | Dictionary],
    store: ActivationStore,
    *,
    model: Lens | None = None,
    config: ExtractConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    out: str | Path | None = None,
    activations: bool = False,
    ranks: tuple[int, int] | None = None,
    progress: Progress = silent,
) -> Units:
    """Measure every unit of the bases over the rows of a store and write one table a basis.

    Args:
        bases: of any sites of the store; a dictionary stands for its latents.
        store: captured activations.
        model: the store's model, for promoted and suppressed tokens; without it they are left out.
        config: settings; the defaults if None.
        workspace: where tables go, ``units/<model>/<site>/<basis>.h5``.
        out: a folder to put ``<basis>.h5`` into instead; one folder a site.
        activations: whether to keep every activation of the sparse bases beside their tables, for
            `interp.features.UnitActivations`.
        ranks: the number of this process, and how many there are; by default what torchrun or SLURM
            says.
        progress: called with rows done.

    Returns:
        The units of all bases, most monosemantic first.

    Raises:
        ConfigError: no basis, two of one name, a model that is not the store's, or ``out`` holds a
            table of that name of another site.
        UnknownName: the store has no such site.
        DataError: the store has no rows, or activations are NaN or infinite.
        ResourceError: no space is left.
    """
    settings = config or ExtractConfig()
    space = workspace if isinstance(workspace, Workspace) else Workspace.at(workspace)
    wanted = [_as_basis(basis, space) for basis in bases]
    _check(wanted, store, model)
    jobs: list[Job] = []
    for basis in wanted:
        path = space.units(store.model, basis.site, basis.name)
        path = path if out is None else Path(out) / path.name
        kept = activations and is_sparse(basis, store, settings.batch)
        jobs.append(Job(basis, path, _key(basis, store, model, settings), kept))
    if out is not None:
        _check_files(jobs, store)
    if any(not job.done for job in jobs):
        sites = list(dict.fromkeys(job.basis.site for job in jobs if not job.done))
        progress(0, len(sites) * store.rows, "learning context embeddings")
        passes = Passes(store, settings, model)
        for number, site in enumerate(sites):
            group = [job for job in jobs if job.basis.site == site]
            told = _of_site(progress, number * store.rows, len(sites) * store.rows)
            _make(group, passes, ranks or _ranks(), told)
    for job in jobs:  # what a process left that ended right after the last part
        shutil.rmtree(job.folder, ignore_errors=True)
    return Units([UnitTable.open(job.path) for job in jobs]).sort()


def _make(jobs: Sequence[Job], passes: Passes, ranks: tuple[int, int], progress: Progress) -> None:
    """Make the tables of one site, together with whoever makes them too."""
    while missing := [job for job in jobs if not job.done]:
        parts = [part for job in missing for part in job.parts if not part.done]
        with claimed(parts, ranks, passes.size, BYTES) as mine:
            if mine:
                passes(mine, progress)
        for job in missing:
            if all(part.done for part in job.parts):
                join(job)
        if parts and not mine:
            progress(0, 1, "waiting for another process")
            time.sleep(POLL)


def _ranks() -> tuple[int, int]:
    if not {"RANK", "SLURM_PROCID"} & os.environ.keys():
        return 0, 1
    from interp.capture.ranks import Ranks  # brings the models' packages

    found = Ranks.of_environment()
    return found.rank, found.world


def _of_site(progress: Progress, before: int, whole: int) -> Progress:
    """Progress of one site among several."""

    def told(done: int, total: int, note: str = "") -> None:
        progress(before + done, whole, note)

    return told


def _as_basis(basis: Basis | Dictionary, workspace: Workspace) -> Basis:
    if isinstance(basis, Dictionary):
        return DictionaryBasis(basis, finished_dictionary(basis, workspace))
    return basis


def _check(bases: Sequence[Basis], store: ActivationStore, model: Lens | None) -> None:
    if not bases:
        raise ConfigError("there is nothing to extract; give at least one basis")
    names = [(basis.site, basis.name) for basis in bases]
    for site, name in names:
        store.site(site)
        if names.count((site, name)) > 1:
            raise ConfigError(f"two bases of {site} are called {name}; give each its own name")
    if not len(store.rows_of("all")):
        raise DataError(f"store {store.name} has no rows besides attention sinks; capture more")
    if model is not None and model.name != store.model:
        raise ConfigError(
            f"store {store.name} was captured from {store.model}, not from {model.name}; load "
            f"{store.model}"
        )
    for basis in bases if model is not None else ():
        store.site(written_site(basis))  # the logit lens looks there


def _check_files(jobs: Sequence[Job], store: ActivationStore) -> None:
    """Refuse two tables in one file: outside the workspace a file is named by its basis alone."""
    of: dict[Path, tuple[str, str]] = {}
    for job in jobs:
        mine = (store.model, job.basis.site)
        try:
            there = UnitTable.open(job.path)
            of.setdefault(job.path, (there.model, there.site))
        except FormatError:  # nothing is there, or nothing of use
            pass
        other = of.setdefault(job.path, mine)
        if other != mine:
            raise ConfigError(
                f"{job.path} would hold {job.basis.name} of {'/'.join(other)} and of "
                f"{'/'.join(mine)}; give each site a folder of its own"
            )


def _key(basis: Basis, store: ActivationStore, model: Lens | None, config: ExtractConfig) -> str:
    parts = {
        "version": VERSION,
        "scores": dict(SCORES),
        "store": store.digest,
        "basis": basis.fingerprint,
        "config": {k: v for k, v in to_dict(config).items() if k != "batch"},
        "model": model.digest if model is not None else "",
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
