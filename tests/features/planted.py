"""Units whose meanings are known, to judge scores by: ``python -m tests.features.planted``.

A made-up corpus: passages of about 20 tokens, each on one of 32 topics with its own words, among
words shared by all. Planted features are tokens (active wherever the token stands) and topics
(active on a random quarter of the rows of its passages). Units mix k = 1…8 features of one kind at
equal density, or two features in shares from 0 to ½, or are shuffled within their documents.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from interp.features import ExtractConfig, UnitTable, extract, neurons
from interp.store import ActivationStore
from tests.stores import make_store

SITE = "mlp_post.0"
KINDS = ("token", "topic")
MOST = 8
SHARES = (0.0, 0.125, 0.25, 0.375, 0.5)
FALLING = {
    "monosemanticity": -1,
    "token_purity": -1,
    "token_share": -1,
    "rule_auroc": -1,
    "rule_one_auroc": -1,
    "senses_share": -1,
    "senses": 1,
    "senses_effective": 1,
    "abstractness": 1,
}
"""Scores judged, and the sign of their change as more features are mixed."""
TOPICS, OWN, SHARED = 32, 12, 60


@dataclass(frozen=True)
class Planted:
    """A store of planted units and what was planted."""

    store: ActivationStore
    mixed: dict[str, tuple[np.ndarray, np.ndarray]]
    """Kind of feature: units and the number of features each mixes."""
    dosed: dict[str, tuple[np.ndarray, np.ndarray]]
    """Kind of feature: units and the share of the second feature in each."""
    shuffled: np.ndarray
    """Units without any meaning."""


@dataclass(frozen=True)
class Corpus:
    """Rows of a made-up corpus."""

    tokens: np.ndarray
    topic: np.ndarray
    documents: np.ndarray
    frequent: np.ndarray
    """Tokens by falling frequency."""
    vocabulary: int = SHARED + TOPICS * OWN


def corpus(draw: np.random.Generator, rows: int) -> Corpus:
    """Draw it; a document has about 200 rows."""
    topic = np.repeat(draw.integers(0, TOPICS, rows // 20 + 1), 20)[:rows]
    own = SHARED + topic * OWN + draw.integers(0, OWN, rows)
    common = np.minimum(draw.geometric(0.04, rows) - 1, SHARED - 1)
    tokens = np.where(draw.random(rows) < 0.4, own, common)
    documents = np.arange(rows) * (rows // 200) // rows
    return Corpus(tokens, topic, documents, np.argsort(-np.bincount(tokens))[:SHARED])


def plant(path: Path, *, rows: int, repeats: int, seed: int = 0) -> Planted:
    """Write the store."""
    draw = np.random.default_rng(seed)
    made = corpus(draw, rows)
    tokens, topic, documents = made.tokens, made.topic, made.documents
    on = {
        "token": (tokens[:, None] == made.frequent[8:40]).T,
        "topic": (topic[:, None] == np.arange(TOPICS)).T & (draw.random(rows) < 0.25),
    }
    columns: list[np.ndarray] = []
    mixed, dosed = {}, {}
    for kind in KINDS:
        features = on[kind]
        ks = np.tile(np.arange(1, MOST + 1), repeats)
        mixed[kind] = (len(columns) + np.arange(len(ks)), ks)
        for k in ks:
            chosen = draw.choice(len(features), k, replace=False)
            columns.append(_fires(features[chosen], np.full(k, 1 / k), draw))
        shares = np.tile(SHARES, repeats)
        dosed[kind] = (len(columns) + np.arange(len(shares)), shares)
        for share in shares:
            chosen = draw.choice(len(features), 2, replace=False)
            columns.append(_fires(features[chosen], np.array([1 - share, share]), draw))
    shuffled = len(columns) + np.arange(8 * repeats)
    for _ in shuffled:
        unit = columns[int(draw.integers(0, len(columns)))].copy()
        for document in range(int(documents.max()) + 1):
            inside = np.flatnonzero(documents == document)
            unit[inside] = unit[draw.permutation(inside)]
        columns.append(unit)
    words = [f" w{number}" for number in range(made.vocabulary)]
    store = make_store(
        path,
        activations={SITE: np.stack(columns, axis=1)},
        tokens=tokens,
        vocabulary=[*words, "<bos>"],
        bos=len(words),
        documents=rows // 200,
        shard_rows=1 << 14,
    )
    return Planted(store, mixed, dosed, shuffled)


def _fires(features: np.ndarray, shares: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Activations of one unit: each feature's rows, thinned so that it has its share of them."""
    least = min(int(feature.sum()) for feature in features)
    out = np.zeros(features.shape[1], np.float32)
    for feature, share in zip(features, shares, strict=True):
        rows = draw.choice(np.flatnonzero(feature), round(share * least), replace=False)
        out[rows] = draw.gamma(4, size=len(rows))
    return out


def measured(planted: Planted, out: Path) -> UnitTable:
    """The table of the planted units."""
    config = ExtractConfig(contexts=3, before=2, after=2, least_active=20)
    return extract([neurons(planted.store, SITE)], planted.store, config=config, out=out).tables[0]


def verdict(values: np.ndarray, ks: np.ndarray, sign: int) -> tuple[float, float]:
    """Spearman correlation with k and AUROC of k = 1 against more, both as for a falling score."""
    values = np.where(np.isfinite(values), values, np.nanmean(values)) * -sign
    return float(spearmanr(values, ks).statistic), float(roc_auc_score(ks == 1, values))


@dataclass(frozen=True)
class Line:
    """How one score judges features of one kind."""

    kind: str
    score: str
    rho: float
    auroc: float
    dose: list[float]
    """Median at each of `SHARES`."""


def table(planted: Planted, found: UnitTable) -> list[Line]:
    """One line a kind and score."""
    lines: list[Line] = []
    for kind in KINDS:
        for name, sign in FALLING.items():
            units, ks = planted.mixed[kind]
            rho, auroc = verdict(found.columns[name][units], ks, sign)
            units, shares = planted.dosed[kind]
            dose = [float(np.nanmedian(found.columns[name][units[shares == s]])) for s in SHARES]
            lines.append(Line(kind, name, rho, auroc, dose))
    return lines


def shuffled_z(planted: Planted, found: UnitTable) -> dict[str, np.ndarray]:
    """Finite null z of the shuffled units, by score."""
    columns = {name: column[planted.shuffled] for name, column in found.columns.items()}
    both = {"monosemanticity": columns["monoscore_z"], "rule_auroc": columns["rule_auroc_z"]}
    return {name: z[np.isfinite(z)] for name, z in both.items()}


def main() -> None:
    """Print the validation tables."""
    from tests.features import planted_parts  # which has its corpus from here

    with tempfile.TemporaryDirectory() as folder:
        planted = plant(Path(folder) / "toy", rows=120_000, repeats=16)
        found = measured(planted, Path(folder))
        _ = found.columns  # read before the folder goes
    lines = [
        f"{line.kind:6} {line.score:17} rho {line.rho:+.3f}  AUROC {line.auroc:.3f}  dose "
        + " ".join(f"{each:.3f}" for each in line.dose)
        for line in table(planted, found)
    ]
    for name, z in shuffled_z(planted, found).items():
        share = np.mean(np.abs(z) < 2)
        lines.append(
            f"shuffled: |z| of {name} below 2 for {share:.1%} of {len(z)}, sd {z.std():.2f}"
        )
    with tempfile.TemporaryDirectory() as folder:
        parts = planted_parts.plant(Path(folder) / "toy", rows=120_000, repeats=16)
        answers = planted_parts.answers(parts, planted_parts.measured(parts, Path(folder)))
    for answer in answers:
        truth = "" if answer.truth is None else f"  truth {_listed(answer.truth)}"
        name = f"{answer.plot:15} {answer.score:24}"
        lines.append(f"{name} rho {answer.rho:+.3f}  {_listed(answer.medians)}{truth}")
    sys.stdout.write("\n".join(lines) + "\n")


def _listed(values: list[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


if __name__ == "__main__":
    main()
