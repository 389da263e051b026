"""A small complete workspace for tests of the app, written by the real writers.

    python -m tests.apps.workspace FOLDER      # to look at it: interp app --workspace FOLDER

The figures are those of the activations that it makes up, so pages show consistent things: the
latents each follow one word, the neurons several, the random directions none in particular.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from interp.features.disentangled import CarriedSense, Compared, Disentangled
from interp.features.meanings import Meanings
from interp.features.table import UnitTable
from interp.features.table_writer import Contexts, Domains, Header, Histogram, Logits, write_table
from interp.files import write_json
from interp.lab.result import Check, Expected, Figure, Reported, Result
from interp.provenance import Provenance
from interp.store import ActivationStore
from interp.workspace import Workspace
from tests.stores import make_store

HOSTILE = [
    "<script>document.title='pwned'</script>",
    "<img src=x onerror=\"document.title='pwned'\">",
    "</style><b>bold</b>",
    '" onmouseover="document.title=1',
    "\u202egnp.exe",
    "long" * 2500,
]
"""Tokens that a page must show as text."""

PLAIN = [
    "the", " king", " of", " Denmark", " speaks", ",", " and", " his", " son", " listens", ".",
    "\n", "def", " read", "(", "self", "):", "    ", "return", " bread", " cheese", " river",
    " sea", "!", " caf", "é", " 漢", "字", " love", " sword", " queen", " night", " garden", "?",
    " money", " ghost",
]  # fmt: skip
EOT, BOS = "<|endoftext|>", "<bos>"
WORDS = [*PLAIN, *HOSTILE, EOT, BOS]

MODEL, SITE = "toy-1l", "resid_post.0"
LATENTS = "batchtopk-96-k4-s0"
DEAD = 7
"""This unit of every basis is dead."""
CARRIED = 3
"""The senses of this neuron are taken apart into latents."""
BEFORE, AFTER = 12, 6
STRATA = ["top", "0-1 %", "1-10 %", "10-50 %", "50-100 %"]
EDGES = 2.0 ** np.arange(-8, 9)


def build(root: Path, *, rows: int = 3000, seed: int = 0) -> Workspace:
    """Write a store, three unit tables of one site, dictionaries, and files of other kinds."""
    workspace = Workspace(root)
    draw = np.random.default_rng(seed)
    tokens = draw.integers(0, len(PLAIN), rows)
    rare = draw.random(rows) < 0.03
    tokens[rare] = draw.integers(len(PLAIN), len(WORDS) - 1, int(rare.sum()))
    store = make_store(
        workspace.store(MODEL), sites={SITE: 24}, rows=rows, documents=12, tokens=tokens,
        vocabulary=WORDS, bos=len(WORDS) - 1, context=64, model=MODEL,
    )  # fmt: skip
    neurons = write_units(
        workspace, store, "neurons", senses(tokens, 48, 4, draw), signed=True, meanings=True
    )
    write_carried(neurons, CARRIED)
    write_units(workspace, store, LATENTS, senses(tokens, 96, 1, draw), meanings=True)
    write_units(workspace, store, "random", draw.gamma(0.3, 1.0, (rows, 24)) - 0.6)
    _dictionary(workspace, LATENTS, state="finished", fve=0.873, l0=3.9, loss_recovered=0.942)
    _dictionary(workspace, "topk-96-k4-s0", state="training")
    write_result(workspace, "pentagon")
    write_json(
        workspace.model(MODEL) / "model.json", {"provenance": _made("train", seed).to_dict()}
    )
    return workspace


def senses(tokens: np.ndarray, units: int, words: int, draw: np.random.Generator) -> np.ndarray:
    """Activations ``[rows, units]`` of units that each follow so many words."""
    out = np.zeros((len(tokens), units))
    for unit in range(units):
        for word in draw.choice(len(WORDS) - 1, words, replace=False):
            hit = tokens == word
            out[hit, unit] = draw.gamma(3.0, 1.5, int(hit.sum()))
    return out


def write_units(
    workspace: Workspace,
    store: ActivationStore,
    basis: str,
    activations: np.ndarray,
    *,
    signed: bool = False,
    logits: bool = True,
    meanings: bool = False,
) -> UnitTable:
    """Measure made-up activations and write their table, as of version 1 or with meanings."""
    values = np.maximum(activations, 0)
    values[:, DEAD] = 0
    n = values.shape[1]
    draw = np.random.default_rng(len(basis))
    active = (values > 0).sum(axis=0)
    score = np.log1p(len(values) / np.maximum(active, 1)) + draw.normal(0, 0.5, n)
    score = np.where(active < 3, np.nan, score / 8)
    counts = np.stack([np.histogram(v[v > 0], EDGES)[0] for v in values.T]).astype(np.uint32)
    header = Header(
        model=MODEL, site=SITE, basis=basis, kind=basis.split("-")[0], signed=signed, n_units=n,
        rows=store.rows, store=store.name, store_digest=store.digest, corpus="library", key=basis,
        provenance=_made("extract", 0, reservoir=128),
        scores={
            "monosemanticity": "(monoscore - null mean) / (1 - null mean)",
            "senses": "experimental; number of clusters",
        },
    )  # fmt: skip
    columns = {
        "density": active / len(values), "active": active.astype(np.int64),
        "max": values.max(axis=0), "mean": values.mean(axis=0), "std": values.std(axis=0),
        "monosemanticity": score, "monoscore": score, "monoscore_null": np.zeros(n),
        "monoscore_null_sd": np.full(n, 0.05), "monoscore_z": score / 0.05,
        "scored_rows": active.astype(np.int64), "dead": active == 0, "rare": active < 3,
    }  # fmt: skip
    meant = _meanings(store, values) if meanings else None
    if meant is not None:
        columns |= _judged(meant, columns["monosemanticity"])
    promoted = draw.integers(0, len(WORDS), (n, 10))
    effect = -np.sort(-draw.random((n, 10)), axis=1)
    domains = sorted({document.domain for document in store.documents})
    return write_table(
        workspace.units(MODEL, SITE, basis),
        header,
        columns,
        Histogram(counts=counts, edges=EDGES),
        _contexts(store, values),
        Domains(names=domains, share=_shares(store, values, domains)),
        Logits(
            promoted=promoted, promoted_value=effect,
            suppressed=promoted[:, ::-1], suppressed_value=-effect,
        ) if logits else None,
        meant,
    )  # fmt: skip


def write_carried(table: UnitTable, unit: int) -> Path:
    """What carries the senses of a neuron: latent 10 the first and holds, 11 the second in part."""
    meaning = table.meaning(unit)
    assert meaning is not None
    strong = Compared(
        value=0.75, low=0.6, high=0.8, control=0.1, control_low=0.05, control_high=0.15
    )
    weak = Compared(value=0.3, low=0.2, high=0.4, control=0.1, control_low=0.05, control_high=0.15)
    senses = tuple(
        CarriedSense(
            sense=number, share=sense.share, exemplar=sense.exemplar, rows=40, activation=2.0,
            contributions=tuple(1.5 if at == number else -0.25 for at in range(2)),
            active=(1.0, 0.5), others=0.45, bias=0.2, error=0.1, carriers=(10 + number,),
            judged=20, removed=(strong, weak)[number], removed_in=(0.7, 0.01)[:: 1 - 2 * number],
            effect_removed=strong, kl_neuron=0.002, kl_carriers=0.004, kl_control=0.001,
        )
        for number, sense in enumerate(meaning.senses[:2])
    )  # fmt: skip
    return Disentangled(
        model=MODEL, site=SITE, basis="neurons", index=unit, dictionary=LATENTS, latents=(10, 11),
        senses=senses, agreement=1.0, table=table.key, config={},
        provenance=_made("disentangle", 0).to_dict(),
    ).write(table.path)  # fmt: skip


def write_result(workspace: Workspace, name: str, measured: float = 0.4) -> Path:
    """A result of the lab, whose figures are one of each kind."""
    check = Check(
        expected=Expected(
            quantity="dimensionality", value=0.4, low=0.39, high=0.41, why="Too <few> steps."
        ),
        values=(measured, measured + 0.002),
    )
    open_ended = Check(expected=Expected(quantity="cells", value=1.0, low=0.9), values=(0.95,))
    figures = (
        Figure(title="Columns of <b>W</b>", kind="scatter", x="hidden 0", y="hidden 1",
               series={"features": [(0.0, 1.0), (1.0, 0.0)]}),
        Figure(title="Loss", kind="line", x="step", y="loss", log=("y",),
               series={"seed 0": [(1.0, 10.0), (2.0, 0.0), (3.0, 0.1)]}),
        Figure(title="Phases", kind="heatmap", x="density", y="importance",
               series={"trained": [(0.1, 1.0, 0.0), (0.1, 2.0, 1.0), (0.2, 1.0, 2.0)]}),
        Figure(title="Weights", kind="heatmap", x="feature", y="neuron", slider="density",
               series={"1": [(0.0, 0.0, 1.0)], "0.1": [(0.0, 0.0, -3.0)]}),
    )  # fmt: skip
    result = Result(
        name=name, paper="Elhage et al. 2022", claim="Five features form a pentagon.",
        effort="quick", setting={"seeds": 2}, checks=(check, open_ended), figures=figures,
        reported=(Reported(quantity="hit rate", values=(0.25, 0.5)),),
        notes={"Text, untrained": "zq <i>xk</i>\nROMEO."},
    )  # fmt: skip
    path = workspace.lab(name) / "result.json"
    record = {"version": 1, **result.to_dict(), "provenance": _made("lab", 0).to_dict()}
    write_json(path, record)
    return path


def write_many(workspace: Workspace, units: int, *, basis: str = "neurons") -> Path:
    """A table of very many units with one short context each, to measure the app with."""
    store = ActivationStore.open(workspace.store(MODEL))
    draw = np.random.default_rng(1)
    density = 10 ** draw.normal(-3, 0.8, units).clip(-6, -0.1)
    rows = draw.integers(0, store.rows, (units, 1, 1))
    value = draw.gamma(3, 1, (units, 1, 1))
    header = Header(
        model="big", site=SITE, basis=basis, kind=basis, signed=False, n_units=units,
        rows=store.rows, store=store.name, store_digest=store.digest, corpus="library",
        key="big", provenance=_made("extract", 1), scores={},
    )  # fmt: skip
    columns = {
        "density": density, "active": (density * store.rows).astype(np.int64),
        "max": value[:, 0, 0], "mean": value[:, 0, 0] / 9, "std": value[:, 0, 0] / 5,
        "monosemanticity": draw.normal(0.2, 0.1, units),
    }  # fmt: skip
    path = workspace.units("big", SITE, basis)
    write_table(
        path,
        header,
        columns,
        Histogram(counts=np.ones((units, 2), np.uint32), edges=np.array([1.0, 2.0, 4.0])),
        Contexts(
            strata=["top"], before=2, after=1, rows=rows, values=value,
            windows=np.repeat(value[..., None], 4, axis=3),
        ),
    )  # fmt: skip
    return path


def _contexts(store: ActivationStore, values: np.ndarray, k: int = 5) -> Contexts:
    n, width = values.shape[1], BEFORE + 1 + AFTER
    rows = np.full((n, len(STRATA), k), -1, np.int64)
    found = np.zeros((n, len(STRATA), k))
    windows = np.zeros((n, len(STRATA), k, width))
    shares = [(0, 0.02), (0, 0.01), (0.01, 0.1), (0.1, 0.5), (0.5, 1.0)]
    for unit in range(n):
        order = np.argsort(-values[:, unit], kind="stable")
        order = order[values[order, unit] > 0]
        for stratum, (low, high) in enumerate(shares):
            chosen = order[int(low * len(order)) : max(int(high * len(order)), 1)][:k]
            for place, row in enumerate(chosen):
                rows[unit, stratum, place] = row
                found[unit, stratum, place] = values[row, unit]
                around = np.arange(row - BEFORE, row + AFTER + 1)
                inside = (around >= 0) & (around < len(values))
                inside[inside] &= store.document_index[around[inside]] == store.document_index[row]
                windows[unit, stratum, place, inside] = values[around[inside], unit]
    return Contexts(
        strata=STRATA, before=BEFORE, after=AFTER, rows=rows, values=found, windows=windows
    )


def _meanings(store: ActivationStore, values: np.ndarray) -> Meanings:
    """Each token a unit follows is one of its senses, and its rule names them all."""
    n, k, most = values.shape[1], 5, 8
    mass = np.stack([values[store.tokens == t].sum(axis=0) for t in range(len(WORDS))], axis=1)
    share = mass / np.maximum(mass.sum(axis=1, keepdims=True), 1e-9)
    order = np.argsort(-share, axis=1, kind="stable")[:, :most]
    sizes = np.take_along_axis(share, order, axis=1)
    rows = _contexts(store, values, k).rows
    sense = np.full(rows.shape, -1, np.int8)
    exemplar = np.full((n, most), -1, np.int64)
    rule = np.zeros((n, 160), np.uint8)
    for unit in range(n):
        shown = rows[unit] >= 0
        for number in np.flatnonzero(sizes[unit] > 0)[::-1]:
            active = (store.tokens == order[unit, number]) & (values[:, unit] > 0)
            exemplar[unit, number] = np.flatnonzero(active)[0]
            sense[unit][shown & active[rows[unit]]] = number
        words = ", ".join(f"“{WORDS[t][:30]}”" for t in order[unit][sizes[unit] > 0])
        text = f"token {words}".encode()[:160].decode(errors="ignore").encode() if words else b""
        rule[unit, : len(text)] = np.frombuffer(text, np.uint8)
    return Meanings(
        languages=["en"],
        language_share=np.ones((n, 1)),
        token=np.where(sizes > 0, order, -1),
        token_share=sizes,
        purity={
            name: np.linspace(1, 0.2 * (at + 1), n * 4).reshape(n, 4)
            for at, name in enumerate(("token", "domain", "language"))
        },
        purity_strata=STRATA[1:],
        rule=rule,
        sense_share=sizes,
        sense_exemplar=exemplar,
        sense_of_context=sense,
        alike_below=0.3,
    )


def _judged(meant: Meanings, score: np.ndarray) -> dict[str, np.ndarray]:
    share = np.maximum(meant.sense_share, 1e-12)
    draw = np.random.default_rng(len(score))
    return {
        "senses_effective": np.exp(-(share * np.log(share)).sum(axis=1)),
        "senses": (meant.sense_share > 0.05).sum(axis=1).astype(np.float64),
        "senses_scattered": np.zeros(len(score)),
        "rule_auroc": 0.5 + meant.token_share[:, 0] / 2,
        "rule_auroc_se": np.full(len(score), 0.02),
        "rule_precision": np.full(len(score), 0.875),
        "rule_recall": np.full(len(score), 0.625),
        "monosemanticity_control": np.where(np.isnan(score), np.nan, draw.random(len(score))),
    }


def _shares(store: ActivationStore, values: np.ndarray, names: Sequence[str]) -> np.ndarray:
    domain = np.array([names.index(document.domain) for document in store.documents])
    mass = np.stack(
        [values[domain[store.document_index] == i].sum(axis=0) for i in range(len(names))], axis=1
    )
    return mass / np.maximum(mass.sum(axis=1, keepdims=True), 1e-9)


def _dictionary(workspace: Workspace, name: str, *, state: str, **metrics: float) -> None:
    folder = workspace.dictionary(MODEL, SITE, name)
    config = {"format": "interp-dictionary", "version": 1, "state": state}
    config["train"] = {"tokens": 4000}
    write_json(folder / "config.json", {**config, "provenance": _made("train", 0).to_dict()})
    (folder / "log.jsonl").write_text("".join(_log(4000 if metrics else 2000)))
    if metrics:
        recovered = metrics.pop("loss_recovered")
        heldout = {"dead_fraction": 1 / 96, **metrics}
        found = {"heldout": heldout, "downstream": {"loss_recovered": recovered}}
        write_json(folder / "metrics.json", found)


def _log(tokens: int) -> Iterator[str]:
    for step in range(1, tokens // 100 + 1):
        place = {"step": step, "tokens": 100 * step}
        left = float(np.exp(-step / 10))
        yield json.dumps({**place, "loss": left, "unexplained": left, "l0": 4.0, "dead": 1}) + "\n"
        if step % 10 == 0:
            measured = {"fve": 0.9 - left, "l0": 4.25, "dead": 2, "density_histogram": [1, 2]}
            yield json.dumps({**place, "heldout": measured}) + "\n"


def _made(job: str, seed: int, **config: object) -> Provenance:
    return Provenance(job=job, seed=seed, config=config, commit="0123456789abcdef")


if __name__ == "__main__":
    build(Path(sys.argv[1]))
