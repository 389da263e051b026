"""Small real unit tables for tests, written by the real writer, beside a real store."""

from pathlib import Path

import numpy as np

from interp.features.table import UnitTable
from interp.features.table_writer import Contexts, Domains, Header, Histogram, Logits, write_table
from interp.provenance import Provenance
from interp.store import ActivationStore
from interp.workspace import Workspace
from tests.stores import make_store

STRATA = ["top", "top 1 %", "1-10 %", "10-50 %", "rest"]
EDGES = 2.0 ** np.arange(-4, 5)


def make_table(
    where: Workspace | Path,
    *,
    model: str = "toy",
    site: str = "resid_post.0",
    basis: str = "neurons",
    kind: str | None = None,
    units: int = 24,
    contexts: int = 3,
    before: int = 6,
    after: int = 3,
    logits: bool = True,
    store: ActivationStore | None = None,
    seed: int = 0,
) -> UnitTable:
    """Write a table of made-up units whose numbers agree with each other and with their store.

    The store is the given one, else ``toy`` of the workspace, made at first use. Unit 0 is dead,
    unit 1 rare; the others are active on random rows, with windows inside their documents.
    """
    workspace = where if isinstance(where, Workspace) else Workspace.at(where)
    if store is None:
        path = workspace.store("toy")
        made = (path / "manifest.json").exists()
        store = ActivationStore.open(path) if made else make_store(path, model=model)
    draw = np.random.default_rng([seed, units])
    values = np.where(
        draw.random((store.rows, units)) < 0.2, draw.gamma(2.0, size=(store.rows, units)), 0
    )
    values[:, 0] = 0
    if units > 1:
        values[np.flatnonzero(values[:, 1])[5:], 1] = 0
    values = values.astype(np.float16).astype(np.float32)
    active = (values > 0).sum(axis=0)
    rare = (active > 0) & (active < 30)
    score = np.where(active >= 30, draw.random(units), np.nan)
    null = np.where(active >= 30, 0.1, np.nan)
    sd = np.where(active >= 30, 0.02, np.nan)
    columns: dict[str, np.ndarray] = {
        "density": active / store.rows,
        "active": active.astype(np.int64),
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
        "max": values.max(axis=0),
        "monosemanticity": (score - null) / (1 - null),
        "monoscore": score,
        "monoscore_null": null,
        "monoscore_null_sd": sd,
        "monoscore_z": (score - null) / sd,
        "scored_rows": active.astype(np.int64),
        "dead": active == 0,
        "rare": rare,
    }
    bins = np.clip(np.digitize(values, EDGES) - 1, 0, len(EDGES) - 2)
    counts = np.stack(
        [((bins == b) & (values > 0)).sum(axis=0) for b in range(len(EDGES) - 1)], axis=1
    )
    signed = basis == "neurons"
    return write_table(
        workspace.units(model, site, basis),
        Header(
            model=model,
            site=site,
            basis=basis,
            kind=kind or (basis if basis in ("neurons", "random") else "topk"),
            signed=signed,
            n_units=units,
            rows=store.rows,
            store=store.name,
            store_digest=store.digest,
            corpus=store.manifest.corpus,
            key="0" * 64,
            provenance=Provenance(
                job="extract",
                seed=seed,
                config={"contexts": contexts},
                parents={store.name: store.digest},
            ),
            scores={"monosemanticity": "(monoscore - null) / (1 - null)"},
        ),
        columns,
        Histogram(counts=counts.astype(np.uint32), edges=EDGES.astype(np.float32)),
        _contexts(store, values, contexts, before, after),
        _domains(store, values),
        _logits(store, draw, units) if logits else None,
    )


def _contexts(
    store: ActivationStore, values: np.ndarray, k: int, before: int, after: int
) -> Contexts:
    units = values.shape[1]
    rows = np.full((units, len(STRATA), k), -1, np.int64)
    peaks = np.zeros((units, len(STRATA), k), np.float32)
    windows = np.zeros((units, len(STRATA), k, before + 1 + after), np.float32)
    for unit in range(units):
        ranked = np.argsort(-values[:, unit], kind="stable")[: int((values[:, unit] > 0).sum())]
        n = len(ranked)
        cuts = [0, min(k, n), max(k, n // 100), n // 10, n // 2, n]
        for part in range(len(STRATA)):
            chosen = ranked[cuts[part] : max(cuts[part + 1], cuts[part])][:k]
            for slot, row in enumerate(chosen):
                document = store.documents[int(store.document_index[row])]
                low = max(row - before, document.first_row)
                high = min(row + after + 1, document.first_row + document.rows)
                rows[unit, part, slot], peaks[unit, part, slot] = row, values[row, unit]
                span = slice(low - row + before, high - row + before)
                windows[unit, part, slot, span] = values[low:high, unit]
    return Contexts(
        strata=STRATA, before=before, after=after, rows=rows, values=peaks, windows=windows
    )


def _domains(store: ActivationStore, values: np.ndarray) -> Domains:
    of_document = np.array([document.domain for document in store.documents])
    names = sorted(set(of_document))
    domain = of_document[store.document_index]
    mass = np.stack([values[domain == name].sum(axis=0) for name in names], axis=1)
    return Domains(names=names, share=mass / np.maximum(mass.sum(axis=1, keepdims=True), 1e-9))


def _logits(store: ActivationStore, draw: np.random.Generator, units: int) -> Logits:
    size = min(10, len(store.vocabulary) // 2)
    effect = draw.normal(size=(units, len(store.vocabulary)))
    order = np.argsort(effect, axis=1)
    up, down = order[:, ::-1][:, :size], order[:, :size]
    return Logits(
        promoted=up,
        promoted_value=np.take_along_axis(effect, up, axis=1),
        suppressed=down,
        suppressed_value=np.take_along_axis(effect, down, axis=1),
    )
