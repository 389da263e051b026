"""Measuring the units of several bases in one pass over a store.

1. One pass over all rows but attention sinks, for every basis of a site at once: statistics,
   candidates for contexts (`interp.features.accumulate`) and, on the scored rows, the sums of the
   monosemanticity score (`interp.features.monoscore`).
2. Contexts are chosen and the activations around them looked up.
3. The logit lens, if a model is given.
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
from interp.features.accumulate import Accumulator, Pool, histogram_edges
from interp.features.bases import Basis, DictionaryBasis
from interp.features.config import ExtractConfig
from interp.features.contexts import STRATA, choose, quantile_edges
from interp.features.find import finished_dictionary
from interp.features.logits import Lens, logits
from interp.features.monoscore import SCORES, MonoScore
from interp.features.scoring import Scoring
from interp.features.table import VERSION, UnitTable
from interp.features.table_writer import Contexts, Domains, Header, Histogram, write_table
from interp.features.units import Units
from interp.features.windows import windows
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
    scoring = Scoring(store, settings) if missing else None
    for number, site in enumerate(sites):
        assert scoring is not None
        group = [job for job in missing if job.basis.site == site]
        done, total = number * store.rows, len(sites) * store.rows
        _extract_site(group, store, site, model, settings, scoring, _Part(progress, done, total))
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
    model: Lens | None,
    config: ExtractConfig,
    scoring: Scoring,
    progress: _Part,
) -> None:
    progress(0, "learning context embeddings")
    names, of_row = _domains(store)
    ranks = np.random.default_rng([config.seed, 0xA1]).permutation(store.rows)
    pool = Pool(KEPT_ENTRIES)
    stats = [
        Accumulator(
            job.basis.n_units,
            len(names),
            ranks,
            top=TOP_PER_CONTEXT * config.contexts,
            sample=config.reservoir,
            pool=pool,
        )
        for job in jobs
    ]
    scores = [MonoScore(job.basis.n_units, scoring.shifts) for job in jobs]
    for rows, values in store.blocks(site, sinks=False, size=config.batch):
        x = torch.from_numpy(values)
        if not bool(torch.isfinite(x).all()):
            bad = int(rows[int((~np.isfinite(values)).any(axis=1).argmax())])
            raise DataError(
                f"site {site} of store {store.name} holds NaN or infinity, first in row {bad}; "
                "capture it again"
            )
        one_hot = torch.from_numpy(of_row[rows] == np.arange(len(names))[:, None]).float()
        first, last = (int(i) for i in np.searchsorted(scoring.rows, [rows[0], rows[-1] + 1]))
        local = torch.from_numpy(np.searchsorted(rows, scoring.rows[first:last]))
        embeddings = scoring.shifts.block(first, last) if last > first else None
        for job, stat, score in zip(jobs, stats, scores, strict=True):
            with torch.inference_mode():
                z = job.basis.encode(x).float().cpu()
                stat.add(rows, z, one_hot)
                if embeddings is not None:
                    score.add(z if len(local) == len(z) else z[local], embeddings)
        progress(int(rows[-1]) + 1, "encoding")
    for job, stat, score in zip(jobs, stats, scores, strict=True):
        if not bool(torch.isfinite(stat.max).all()):
            raise DataError(
                f"basis {job.basis.name} gives NaN or infinity on store {store.name}; train the "
                "dictionary again or leave it out"
            )
        progress(store.rows, f"contexts and logits of {job.basis.name}")
        _write(job, store, model, config, stat, score, names)


def _write(
    job: _Job,
    store: ActivationStore,
    model: Lens | None,
    config: ExtractConfig,
    stat: Accumulator,
    score: MonoScore,
    domains: Sequence[str],
) -> None:
    basis, counts, active = job.basis, stat.counts, stat.active
    top, sample = stat.strongest.result(), stat.sample.result()
    edges = quantile_edges(counts, histogram_edges(), sample[2], stat.max.numpy())
    peaks, values = choose(
        (top[0], top[2]), (sample[0], sample[2]), edges, store.document_index, config.contexts
    )
    around = windows(
        basis,
        store,
        peaks,
        before=config.before,
        after=config.after,
        codes=stat.codes,
        batch=config.batch,
    )
    stat.codes = None
    result = score.result(config.least_active)
    mean, std = stat.moments()
    columns: dict[str, np.ndarray] = {
        "density": active / max(stat.rows, 1),
        "active": active,
        "mean": mean,
        "std": std,
        "max": stat.max.numpy(),
        **vars(result),
        "dead": active == 0,
        "rare": (active > 0) & (result.scored_rows < config.least_active),
    }
    lens = None
    if model is not None:
        size = len(store.vocabulary) if store.manifest.vocabulary else None
        lens = logits(basis, store.site(basis.site), model, size)
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
        scores=SCORES,
    )
    write_table(
        job.path,
        header,
        columns,
        Histogram(counts=counts.astype(np.uint32), edges=histogram_edges()),
        Contexts(
            strata=STRATA,
            before=config.before,
            after=config.after,
            rows=peaks,
            values=values,
            windows=around,
        ),
        Domains(names=domains, share=stat.domain_share()),
        lens,
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


def _domains(store: ActivationStore) -> tuple[list[str], np.ndarray]:
    """Names of the domains and each row's."""
    of_document = [document.domain for document in store.documents]
    names = sorted(set(of_document))
    numbers = np.array([names.index(domain) for domain in of_document], dtype=np.int64)
    return names, numbers[store.document_index]
