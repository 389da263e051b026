"""Units of which one thing is planted at a time: by `python -m tests.features.planted` as well.

The corpus is that of `tests.features.planted`. Each plot is one score and units that differ in one
known share, its dose:

1. *Diluted*: the strong half of the active rows stand on one token (or in one domain), of the weak
   half only a share 1 - d; the purity of the lowest stratum, and the purity ratio, are then 1 - d.
2. *Labelled*: a share s of active rows lies in one of three domains of equal size, the rest evenly
   in the others, r = (1 - s) / 2 in each. Truth: exp of the entropy of (s, r, r); selectivity
   (s - r) / (s + r); AUROC ½ + (density inside - density outside) / 2.
3. *Blurred*: units of two tokens, of whose rows a share is drawn at random: stability must fall.
4. *Followed*: a unit promotes five tokens; a share of its active rows stands before one of them.
   *Promoted*: it promotes them by 0 to 8 standard deviations; kurtosis must rise.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor

from interp.features import ExtractConfig, UnitTable, extract, neurons
from interp.store import ActivationStore, Site
from tests.features.planted import SITE, Corpus, corpus
from tests.stores import make_store

DOSES = (0.0, 0.25, 0.5, 0.75, 1.0)
STRENGTHS = (0.0, 2.0, 4.0, 8.0)
ACTIVE = 400
"""Active rows of a unit."""
PROMOTED = 5


@dataclass(frozen=True)
class Plot:
    """Units of one kind, each with its dose."""

    units: np.ndarray
    doses: np.ndarray


@dataclass(frozen=True)
class Parts:
    """A store of planted units, the plots, and the model that knows what units promote."""

    store: ActivationStore
    plots: dict[str, Plot]
    lens: "Lens"


class Lens:
    """A model whose logits are what was planted."""

    name, digest = "toy", "2" * 64

    def __init__(self, effect: np.ndarray) -> None:
        """``[units, vocabulary]``."""
        self.effect = torch.from_numpy(effect.astype(np.float32))

    def write_directions(self, site: Site, directions: Float[Tensor, "n w"]) -> Tensor:
        return directions

    def logit_lens(self, residual: Float[Tensor, "n w"]) -> Tensor:
        return residual @ self.effect


def plant(path: Path, *, rows: int, repeats: int, seed: int = 0) -> Parts:
    """Write the store."""
    draw = np.random.default_rng([seed, 1])
    made = corpus(draw, rows)
    domain = made.documents % 3  # as of the store's documents
    kinds: dict[str, tuple[tuple[float, ...], Callable[[float], np.ndarray]]] = {
        "diluted token": (DOSES, lambda d: _diluted(made.tokens, _token(made, draw), d, draw)),
        "diluted domain": (DOSES, lambda d: _diluted(domain, int(draw.integers(3)), d, draw)),
        "labelled": (tuple(np.linspace(1 / 3, 1, 5)), lambda s: _labelled(domain, s, draw)),
        "blurred": (DOSES, lambda r: _blurred(made, r, draw)),
    }
    columns: list[np.ndarray] = []
    plots: dict[str, Plot] = {}
    for name, (doses, grow) in kinds.items():
        given = np.tile(doses, repeats)
        plots[name] = Plot(len(columns) + np.arange(len(given)), given)
        columns += [grow(dose) for dose in given]
    effect = draw.normal(size=(len(columns), made.vocabulary + 1)).tolist()
    for name, doses in (("followed", DOSES), ("promoted", STRENGTHS)):
        given = np.tile(doses, repeats)
        plots[name] = Plot(len(columns) + np.arange(len(given)), given)
        for dose in given:
            after = draw.choice(made.frequent[8:40], PROMOTED, replace=False)
            line = draw.normal(size=made.vocabulary + 1)
            line[after] += 3 if name == "followed" else dose
            effect.append(line)
            columns.append(_followed(made, after, dose if name == "followed" else 0.5, draw))
    words = [f" w{number}" for number in range(made.vocabulary)]
    store = make_store(
        path,
        activations={SITE: np.stack(columns, axis=1)},
        tokens=made.tokens,
        vocabulary=[*words, "<bos>"],
        bos=len(words),
        documents=int(made.documents.max()) + 1,
        shard_rows=1 << 14,
    )
    return Parts(store, plots, Lens(np.array(effect)))


def measured(parts: Parts, out: Path) -> UnitTable:
    """The table of the planted units."""
    config = ExtractConfig(contexts=3, before=2, after=2, least_active=20)
    basis = neurons(parts.store, SITE)
    return extract([basis], parts.store, model=parts.lens, config=config, out=out).tables[0]


@dataclass(frozen=True)
class Answer:
    """How one score answers to a dose."""

    plot: str
    score: str
    rho: float
    """Spearman correlation with the dose."""
    medians: list[float]
    truth: list[float] | None
    """What it should be, where a formula says so."""


def answers(parts: Parts, found: UnitTable) -> list[Answer]:
    """One line a plot and score."""
    columns = dict(found.columns)
    meanings = [found.meaning(unit) for unit in range(found.n_units)]
    for each in ("token", "domain"):  # purity of the lowest stratum
        weak = [meaning.purity[each]["rest"] for meaning in meanings if meaning is not None]
        columns[f"{each}_rest"] = np.array(weak)
    doses = np.array(DOSES)
    shares = parts.plots["labelled"].doses[: len(DOSES)]
    rest = (1 - shares) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.nansum([p * np.log(p) for p in (shares, rest, rest)], axis=0)
    density = ACTIVE * 3 / parts.store.rows
    lines: list[tuple[str, str, np.ndarray | None]] = [
        ("labelled", "domains_effective", np.exp(entropy)),
        ("labelled", "domain_selectivity", (shares - rest) / (shares + rest)),
        ("labelled", "domain_auroc", 0.5 + density * (shares - rest) / 2),
        ("blurred", "senses_stability", None),
        ("blurred", "senses_scattered", doses),
        ("followed", "logit_agreement", None),
        ("promoted", "logit_kurtosis", None),
    ]
    for each in ("token", "domain"):
        plot = f"diluted {each}"
        lines += [(plot, name, 1 - doses) for name in (f"{each}_rest", f"{each}_purity_ratio")]
    out: list[Answer] = []
    for name, score, truth in lines:
        plot = parts.plots[name]
        values = columns[score][plot.units].astype(np.float64)
        medians = [float(np.nanmedian(values[plot.doses == d])) for d in np.unique(plot.doses)]
        known = np.isfinite(values)
        rho = float(spearmanr(values[known], plot.doses[known]).statistic)
        out.append(Answer(name, score, rho, medians, None if truth is None else truth.tolist()))
    return out


def _token(made: Corpus, draw: np.random.Generator) -> int:
    return int(made.frequent[draw.integers(8, 40)])


def _column(
    rows: int, strong: np.ndarray, weak: np.ndarray, draw: np.random.Generator
) -> np.ndarray:
    """Activations above 2 on the strong rows and below 1 on the weak ones."""
    out = np.zeros(rows, np.float32)
    out[weak] = draw.uniform(0.1, 1, len(weak))
    out[strong] = 2 + draw.gamma(4, size=len(strong))
    return out


def _diluted(codes: np.ndarray, code: int, share: float, draw: np.random.Generator) -> np.ndarray:
    inside, outside = np.flatnonzero(codes == code), np.flatnonzero(codes != code)
    size = min(ACTIVE, len(inside))
    other = round(share * (size // 2))
    chosen = draw.permutation(inside)[:size]
    weak = np.concatenate([chosen[size // 2 + other :], draw.permutation(outside)[:other]])
    return _column(len(codes), chosen[: size // 2], weak, draw)


def _labelled(domain: np.ndarray, share: float, draw: np.random.Generator) -> np.ndarray:
    best = int(draw.integers(3))
    chosen = [
        draw.choice(
            np.flatnonzero(domain == each),
            round(ACTIVE * (share if each == best else (1 - share) / 2)),
            replace=False,
        )
        for each in range(3)
    ]
    return _column(len(domain), np.concatenate(chosen), np.empty(0, np.int64), draw)


def _blurred(made: Corpus, share: float, draw: np.random.Generator) -> np.ndarray:
    tokens = draw.choice(made.frequent[8:40], 2, replace=False)
    other = round(share * ACTIVE)
    rows = [
        draw.permutation(np.flatnonzero(made.tokens == token))[: (ACTIVE - other) // 2]
        for token in tokens
    ]
    rows.append(draw.choice(len(made.tokens), other, replace=False))
    return _column(len(made.tokens), np.concatenate(rows), np.empty(0, np.int64), draw)


def _followed(
    made: Corpus, after: np.ndarray, share: float, draw: np.random.Generator
) -> np.ndarray:
    before = np.append(np.isin(made.tokens[1:], after), False)
    number = round(share * ACTIVE)
    rows = [
        draw.choice(np.flatnonzero(before), number, replace=False),
        draw.choice(len(before), ACTIVE - number, replace=False),
    ]
    return _column(len(before), np.concatenate(rows), np.empty(0, np.int64), draw)
