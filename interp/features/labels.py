"""How a unit's activation is spread over the documents' labels: domains and languages.

Labels belong to documents, so one pass adds up activation and active rows per document, and files
them under (label, group). A group is a random eighth of the documents: leaving one out after the
other gives the standard error by the jackknife, in which the rows of a document count as what they
are, one draw.

With m_l the mean activation on rows of label l (the base rate is thereby corrected for):

1. Effective number exp(-Σ p_l ln p_l) with p_l = m_l / Σ m: 1 if one label has all, L if the mean
   activation is the same everywhere.
2. Selectivity (m_best - m_rest) / (m_best + m_rest), rest = all rows of other labels.
3. AUROC of "row has the best label" by activation. Zeros are counted exactly; how active rows of
   the label rank among active rows of the others is taken from the unit's random sample.

Labels with fewer than ``LEAST_ROWS`` rows have no trustworthy mean and are left out; with fewer
than two labels there is no value. A label whose documents fall into one group has no standard
error.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy.typing import NDArray

from interp.compiled import compiled
from interp.features.firing import Firing
from interp.features.jackknife import GROUPS, jackknife_error
from interp.sae.kernels.compiled import balanced, share
from interp.store import ActivationStore

Array = NDArray[Any]

FIELDS = ("domain", "language")
LEAST_ROWS = 100
MOST = 64
"""Labels of a field told apart; those with the fewest rows beyond count as one, ``other``."""

_WORDS = {
    "{}s_effective": "effective number of {}s: exp of the entropy of mean activation over {}s; 1 "
    "is one {} only",
    "{}s_effective_se": "its standard error, by a jackknife over eight groups of documents",
    "{}_selectivity": "(mean in the best {} - mean elsewhere) / (their sum)",
    "{}_selectivity_se": "its standard error, by a jackknife over eight groups of documents",
    "{}_auroc": "AUROC of activation for rows of the unit's best {} against all others",
    "{}_best": "number of the {} with the highest mean activation",
}
SCORES = {
    name.format(each): words.replace("{}", each)
    for each in FIELDS
    for name, words in _WORDS.items()
}


class Labels:
    """The labels of a store's documents and the groups they are counted in."""

    def __init__(self, store: ActivationStore, seed: int) -> None:
        """Number the labels of every field and deal the documents into groups."""
        documents = store.documents
        live = np.bincount(store.document_index[~store.sinks], minlength=len(documents))
        shuffled = np.random.default_rng([seed, 0x6209]).permutation(len(documents))
        self.group: Int64[np.ndarray, " documents"] = shuffled % GROUPS
        self.names: dict[str, list[str]] = {}
        self.of_document: dict[str, np.ndarray] = {}
        self.rows: dict[str, np.ndarray] = {}
        for each in FIELDS:
            found = [str(getattr(document, each)) for document in documents]
            self.names[each], self.of_document[each] = _numbered(found, live)
            cells = self.of_document[each] * GROUPS + self.group
            counts = np.bincount(cells, weights=live, minlength=len(self.names[each]) * GROUPS)
            self.rows[each] = counts.reshape(-1, GROUPS)


class LabelMass:
    """Activation and active rows of every unit by label and group."""

    def __init__(self, units: int, labels: Labels) -> None:
        """Start at zero."""
        self._labels = labels
        self._mass: dict[str, np.ndarray] = {}
        self._active: dict[str, np.ndarray] = {}
        for each, names in labels.names.items():
            shape = (units, len(names) * GROUPS)
            self._mass[each] = np.zeros(shape)
            self._active[each] = np.zeros(shape, np.int32)

    def add(self, documents: Int64[np.ndarray, " n"], firing: Firing) -> None:
        """Take a block of rows: each one's document and activations."""
        bounds = balanced(firing.offsets)
        for each, of_document in self._labels.of_document.items():
            cell = of_document[documents] * GROUPS + self._labels.group[documents]
            share(
                _add_up, bounds, firing.offsets, firing.places, firing.values, cell,
                self._mass[each], self._active[each],
            )  # fmt: skip

    def share(self, field: str) -> Float32[np.ndarray, "units labels"]:
        """Share of each unit's activation mass under each label; 0 for dead units."""
        mass = self._cells(self._mass[field]).sum(axis=1)
        return (mass / np.maximum(mass.sum(axis=0), 1e-300)).T.astype(np.float32)

    def scores(
        self,
        rows: Int64[np.ndarray, "units kept"],
        values: Float32[np.ndarray, "units kept"],
        document_index: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Every column of `SCORES`, NaN where a field has fewer than two labels.

        Args:
            rows: random active rows of each unit, -1 where there is none.
            values: activations there.
            document_index: each row's document.
        """
        out: dict[str, np.ndarray] = {}
        for each in FIELDS:
            mass, size = self._cells(self._mass[each]), self._labels.rows[each]
            active = self._cells(self._active[each]).sum(axis=1).astype(np.float64)
            enough = size.sum(axis=1) >= LEAST_ROWS
            units = mass.shape[2]
            if enough.sum() < 2:
                missing = np.full(units, np.nan)
                out |= {name.format(each): missing for name in _WORDS}
                continue
            chosen = np.flatnonzero(enough)
            mass, size, active = mass[chosen], size[chosen], active[chosen]
            best = _rates(mass.sum(axis=1), size.sum(axis=1)).argmax(axis=0)
            codes = self._labels.of_document[each][document_index[np.maximum(rows, 0)]]
            inside = codes == chosen[best][:, None]
            usable = (rows >= 0) & enough[codes]
            ranked = _ranked_higher(values, usable & inside, usable & ~inside)
            out[f"{each}s_effective"], out[f"{each}s_effective_se"] = _jackknife(
                lambda m, n: effective_number(_rates(m, n)), mass, size
            )
            out[f"{each}_selectivity"], out[f"{each}_selectivity_se"] = _jackknife(
                lambda m, n, best=best: _selectivity(m, n, best), mass, size
            )
            out[f"{each}_auroc"] = _auroc(active, size.sum(axis=1), best, ranked)
            # A label found in one group only has no spread to learn an error from.
            lonely = (size > 0).sum(axis=1) < 2
            if lonely.any():
                out[f"{each}s_effective_se"] = np.full(units, np.nan)
            error = out[f"{each}_selectivity_se"]
            out[f"{each}_selectivity_se"] = np.where(lonely[best], np.nan, error)
            dead = active.sum(axis=0) == 0
            out[f"{each}_best"] = np.where(dead, np.nan, chosen[best])
        return out

    @staticmethod
    def _cells(values: np.ndarray) -> Float64[np.ndarray, "labels groups units"]:
        return np.ascontiguousarray(values.T, np.float64).reshape(-1, GROUPS, len(values))


@compiled
@no_type_check
def _add_up(
    first: int,
    last: int,
    offsets: Array,
    places: Array,
    values: Array,
    cell: Array,
    mass: Array,
    active: Array,
) -> None:
    """Entries of units ``first`` to ``last``, each into the cell of its row."""
    for unit in range(first, last):
        for e in range(offsets[unit], offsets[unit + 1]):
            mass[unit, cell[places[e]]] += values[e]
            active[unit, cell[places[e]]] += 1


def effective_number(
    weights: Float64[np.ndarray, "parts units"],
) -> Float64[np.ndarray, " units"]:
    """exp of the entropy of each unit's weights; NaN where they are all 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = weights / weights.sum(axis=0)
        terms = np.where(p > 0, p * np.log(p), np.where(np.isnan(p), np.nan, 0.0))
    return np.exp(-terms.sum(axis=0))


def _rates(mass: np.ndarray, rows: np.ndarray) -> Float64[np.ndarray, "labels units"]:
    return mass / np.maximum(rows, 1)[:, None]


def _selectivity(mass: np.ndarray, rows: np.ndarray, best: np.ndarray) -> np.ndarray:
    units = np.arange(mass.shape[1])
    top = mass[best, units] / np.maximum(rows[best], 1)
    rest = (mass.sum(axis=0) - mass[best, units]) / np.maximum(rows.sum() - rows[best], 1)
    with np.errstate(invalid="ignore"):
        return (top - rest) / (top + rest)


def _jackknife(
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray], mass: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A statistic of (mass, rows) over all groups, and its standard error."""
    whole_mass, whole_rows = mass.sum(axis=1), rows.sum(axis=1)
    used = np.flatnonzero(rows.sum(axis=0) > 0)
    parts = np.stack([statistic(whole_mass - mass[:, g], whole_rows - rows[:, g]) for g in used])
    return statistic(whole_mass, whole_rows), jackknife_error(parts)


def _ranked_higher(
    values: np.ndarray, inside: np.ndarray, outside: np.ndarray
) -> Float64[np.ndarray, " units"]:
    """P(an active value of one kind exceeds one of the other), ½ where a kind has none."""
    out = np.full(len(values), 0.5)
    for unit, (value, one, other) in enumerate(zip(values, inside, outside, strict=True)):
        if one.any() and other.any():
            out[unit] = exceeds(value[one], value[other])
    return out


def exceeds(one: np.ndarray, other: np.ndarray) -> float:
    """P(a value of ``one`` exceeds a value of ``other``), ties counting half: the AUROC."""
    ranked = np.sort(other)
    below = np.searchsorted(ranked, one, side="left")
    upto = np.searchsorted(ranked, one, side="right")
    return float((below + upto).mean() / (2 * len(other)))


def _auroc(
    active: np.ndarray, rows: np.ndarray, best: np.ndarray, ranked: np.ndarray
) -> np.ndarray:
    units = np.arange(active.shape[1])
    inside = active[best, units] / rows[best]
    outside = (active.sum(axis=0) - active[best, units]) / (rows.sum() - rows[best])
    both, neither = inside * outside, (1 - inside) * (1 - outside)
    return both * ranked + inside * (1 - outside) + neither / 2


def _numbered(found: Sequence[str], live: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Names by alphabet and each document's number; the rarest beyond ``MOST`` become ``other``."""
    size: dict[str, int] = {}
    for name, rows in zip(found, live, strict=True):
        size[name] = size.get(name, 0) + int(rows)
    kept = sorted(size, key=lambda name: (-size[name], name))[:MOST]
    as_named: Mapping[str, str] = {name: name if name in kept else "other" for name in size}
    names = sorted(set(as_named.values()))
    return names, np.array([names.index(as_named[name]) for name in found], dtype=np.int64)
