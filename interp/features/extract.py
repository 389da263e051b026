"""Measuring the units of several bases in one pass over a store.

1. One pass over all rows but attention sinks, for every basis of a site at once and for random
   directions as controls (`interp.features.control`): statistics and candidates for contexts
   (`interp.features.accumulate`) and, on the scored rows, the sums of the monosemanticity score
   (`interp.features.monoscore`).
2. Scores, contexts, rules, senses and the logit lens of each basis (`interp.features.measure`).
3. Each score's percentile among the controls; the activations around the contexts.
4. One table a basis, written at once. A table that is already there, made from the same store, the
   same basis and the same settings, is left alone: an extraction that was interrupted continues
   with the bases that are missing.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from interp.config import to_dict
from interp.errors import ConfigError, DataError, FormatError
from interp.features.accumulate import Accumulator, Pool, Rows
from interp.features.bases import Basis, DictionaryBasis, written_site
from interp.features.config import ExtractConfig
from interp.features.control import controls, percentiles
from interp.features.find import finished_dictionary
from interp.features.logits import Lens
from interp.features.measure import SCORES, Measure, Measured
from interp.features.monoscore import MonoScore
from interp.features.scoring import Scoring
from interp.features.table import VERSION, UnitTable
from interp.features.table_writer import Contexts, Header, write_table
from interp.features.units import Units
from interp.progress import Progress, silent
from interp.provenance import Provenance
from interp.sae import Dictionary
from interp.store import ActivationStore
from interp.workspace import Workspace

KEPT_ENTRIES = 64_000_000
"""Non-zero activations kept over all bases to look windows up in, about 10 bytes each."""
TOP_PER_CONTEXT = 4
"""Strongest rows kept per context wanted, so that contexts can come from different documents."""


def extract(
    bases: Sequence[Basis | Dictionary],
    store: ActivationStore,
    *,
    model: Lens | None = None,
    config: ExtractConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    out: str | Path | None = None,
    progress: Progress = silent,
) -> Units:
    """Measure every unit of the bases over the rows of a store and write one table a basis.

    Args:
        bases: of any sites of the store; a dictionary stands for its latents.
        store: captured activations.
        model: the store's model, for promoted and suppressed tokens; without it they are left out.
        config: settings; the defaults if None.
        workspace: where tables go, ``units/<model>/<site>/<basis>.h5``.
        out: a folder to put ``<basis>.h5`` into instead.
        progress: called with rows done.

    Returns:
        The units of all bases, most monosemantic first.

    Raises:
        ConfigError: no basis, two of one name, or a model that is not the store's.
        UnknownName: the store has no such site.
        DataError: the store has no rows, or activations are NaN or infinite.
        ResourceError: no space is left.
    """
    settings = config or ExtractConfig()
    space = workspace if isinstance(workspace, Workspace) else Workspace.at(workspace)
    wanted = [_as_basis(basis, space) for basis in bases]
    _check(wanted, store, model)
    jobs: list[_Job] = []
    for basis in wanted:
        if out is None:
            path = space.units(store.model, basis.site, basis.name)
        else:
            path = Path(out) / space.units(store.model, basis.site, basis.name).name
        jobs.append(_Job(basis, path, _key(basis, store, model, settings)))
    missing = [job for job in jobs if not _up_to_date(job)]
    sites = list(dict.fromkeys(job.basis.site for job in missing))
    if missing:
        progress(0, len(sites) * store.rows, "learning context embeddings")
        about, scoring = Rows(store, settings.seed), Scoring(store, settings)
        measure = Measure(store, about, scoring, settings, model)
        for number, site in enumerate(sites):
            group = [job for job in missing if job.basis.site == site]
            part = _Part(progress, number * store.rows, len(sites) * store.rows)
            _extract_site(group, store, site, settings, about, scoring, measure, part)
    return Units([UnitTable.open(job.path) for job in jobs]).sort()


@dataclass(frozen=True)
class _Job:
    basis: Basis
    path: Path
    key: str


@dataclass(frozen=True)
class _Part:
    """Progress of one site among several."""

    progress: Progress
    done: int
    total: int

    def __call__(self, rows: int, note: str) -> None:
        self.progress(self.done + rows, self.total, note)


def _extract_site(
    jobs: Sequence[_Job],
    store: ActivationStore,
    site: str,
    config: ExtractConfig,
    about: Rows,
    scoring: Scoring,
    measure: Measure,
    progress: _Part,
) -> None:
    bases = [job.basis for job in jobs]
    # The controls are measured like any basis and written into no table of their own.
    bases.append(controls(store, site, config.seed))
    pool = Pool(KEPT_ENTRIES)
    stats = [
        Accumulator(
            basis.n_units,
            about,
            top=TOP_PER_CONTEXT * config.contexts,
            sample=config.reservoir,
            pool=pool,
        )
        for basis in bases
    ]
    stats[-1].codes = None
    scores = [MonoScore(basis.n_units, scoring.shifts) for basis in bases]
    for rows, values in store.blocks(site, sinks=False, size=config.batch):
        x = torch.from_numpy(values)
        if not bool(torch.isfinite(x).all()):
            bad = int(rows[int((~np.isfinite(values)).any(axis=1).argmax())])
            raise DataError(
                f"site {site} of store {store.name} holds NaN or infinity, first in row {bad}; "
                "capture it again"
            )
        first, last = (int(i) for i in np.searchsorted(scoring.rows, [rows[0], rows[-1] + 1]))
        local = torch.from_numpy(np.searchsorted(rows, scoring.rows[first:last]))
        embeddings = scoring.shifts.block(first, last) if last > first else None
        for basis, stat, score in zip(bases, stats, scores, strict=True):
            with torch.inference_mode():
                z = basis.encode(x).float().cpu()
                stat.add(rows, z)
                if embeddings is not None:
                    score.add(z if len(local) == len(z) else z[local], embeddings)
        progress(int(rows[-1]) + 1, "encoding")
    progress(store.rows, "scores of the controls")
    control = measure(bases[-1], stats[-1], scores[-1]).columns
    for job, stat, score in zip(jobs, stats[:-1], scores[:-1], strict=True):
        if not bool(torch.isfinite(stat.max).all()):
            raise DataError(
                f"basis {job.basis.name} gives NaN or infinity on store {store.name}; train the "
                "dictionary again or leave it out"
            )
        progress(store.rows, f"scores of {job.basis.name}")
        measured = measure(job.basis, stat, score)
        measured.columns.update(percentiles(measured.columns, control))
        progress(store.rows, f"contexts of {job.basis.name}")
        _write(job, store, config, measured, measure.contexts(job.basis, stat, measured))
        stat.codes = None


def _write(
    job: _Job, store: ActivationStore, config: ExtractConfig, measured: Measured, contexts: Contexts
) -> None:
    basis, columns = job.basis, measured.columns
    header = Header(
        model=store.model,
        site=basis.site,
        basis=basis.name,
        kind=basis.kind,
        signed=basis.signed,
        n_units=basis.n_units,
        rows=store.rows,
        store=store.name,
        store_digest=store.digest,
        corpus=store.manifest.corpus,
        key=job.key,
        provenance=Provenance(
            job="extract",
            seed=config.seed,
            config=to_dict(config),
            parents={store.name: store.digest, basis.name: basis.fingerprint},
        ),
        scores={name: words for name, words in SCORES.items() if name in columns},
    )
    write_table(
        job.path,
        header,
        columns,
        measured.histogram,
        contexts,
        measured.domains,
        measured.lens,
        measured.meanings,
    )


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


def _key(basis: Basis, store: ActivationStore, model: Lens | None, config: ExtractConfig) -> str:
    parts = {
        "version": VERSION,
        "store": store.digest,
        "basis": basis.fingerprint,
        "config": {k: v for k, v in to_dict(config).items() if k != "batch"},
        "model": model.digest if model is not None else "",
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _up_to_date(job: _Job) -> bool:
    try:
        return job.path.is_file() and UnitTable.open(job.path).key == job.key
    except FormatError:
        return False  # written anew
