"""A rule in words for every unit, learnt on half of its contexts and judged on the other half.

This is the detection test of automated interpretability with a rule in place of a language model
(compare Foote et al. 2023, "Neuron to Graph", 2305.19911): can the rule tell the unit's active rows
from random rows on which it is silent?

1. Documents are halved at random, so that no document is both learnt from and judged on.
2. On the first half, each trait (`interp.features.traits`) proposes the values for which
   share of active rows - share of silent rows is largest, and each class is tried. That difference,
   Youden's J, adds up over values, so the best set is the best values; each must occur on at least
   two active rows. A set costs ``PRICE`` a member: among equals the shorter rule wins.
3. On the second half: recall = share of active rows the rule holds for; precision = recall /
   (recall + false alarms), which is precision among as many active as silent rows; AUROC = (1 + J)
   / 2, that of a yes-or-no rule. Its standard error takes rows as independent. ½ is chance, in
   expectation exactly. How surely it differs from chance is z, the difference of the two shares
   over its standard error after one success and one failure have been added to each (Agresti &
   Caffo 2000, "Simple and effective confidence intervals for proportions and differences of
   proportions"): with the few rows of a rare unit the plain ratio exceeds 2 too often.
4. ``rule_one_auroc`` judges the best rule with a single member in the same way. A unit that
   follows eight tokens has a good rule but no good rule of one: this is the score that falls when
   meanings are mixed; ``rule_auroc`` says how far the words can be trusted.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from interp.features.rule_loops import best_values, count_held
from interp.features.sample import Sample, Silent
from interp.features.traits import Traits
from interp.sae.kernels.compiled import even, share
from interp.store import ActivationStore

LEAST = 8
"""Active and silent rows needed in each half."""
PRICE = 0.01
TIE = 1e-12
"""Gains nearer than this are equal: the earlier trait wins, not the last bit of a sum."""
WIDTH = 160
"""Bytes of UTF-8 kept of a rule."""
CHUNK = 1024
"""Units looked at at a time; bounds memory."""

SCORES = {
    "rule_auroc": "AUROC of the unit's rule on documents it was not learnt from, active rows "
    "against random silent ones; ½ is chance",
    "rule_auroc_se": "its standard error, rows taken as independent",
    "rule_auroc_z": "experimental; how far rule_auroc is from ½, as a standard normal value "
    "(Agresti & Caffo 2000), rows taken as independent",
    "rule_precision": "precision of the rule there, among as many active as silent rows",
    "rule_recall": "share of active rows there for which the rule holds",
    "rule_one_auroc": "AUROC there of the best rule with one member: falls as meanings are mixed",
    "rule_one_auroc_se": "its standard error, rows taken as independent",
}


@dataclass(frozen=True)
class _Half:
    """One half of the contexts of some units."""

    active: Bool[np.ndarray, "units kept"]
    """Which of the sampled active rows lie in it."""
    silent: Bool[np.ndarray, "units pool"]
    """Which of the pool's rows lie in it and are silent."""

    @property
    def sizes(self) -> tuple[np.ndarray, np.ndarray]:
        """How many active and how many silent rows each unit has."""
        return self.active.sum(axis=1), self.silent.sum(axis=1)


@dataclass(frozen=True)
class _Best:
    """The best rule of each unit so far."""

    trait: Int64[np.ndarray, " units"]
    """Place among the traits of many values; -1 for a class."""
    values: Int64[np.ndarray, "units most"]
    """The values, or the one class; -1 behind the last."""
    gain: Float[np.ndarray, " units"]

    def replace(self, trait: int, values: np.ndarray, gain: np.ndarray) -> None:
        """Take another rule for the units in which it gains more."""
        more = gain > self.gain + TIE
        self.trait[more], self.gain[more], self.values[more] = trait, gain[more], -1
        self.values[more, : values.shape[1]] = values[more]


class Rules:
    """Learns and judges rules on the rows of one store."""

    def __init__(self, store: ActivationStore, traits: Traits, silent: Silent, seed: int) -> None:
        """Halve the documents and look up the traits of the silent rows."""
        self._traits, self._silent = traits, silent
        draw = np.random.default_rng([seed, 0x4A1F])
        halves = draw.permutation(len(store.documents)) % 2
        self._first = halves[store.document_index] == 0
        self._pool = [trait.codes[silent.rows] for trait in traits.many]
        self._kinds = [np.unique(codes, return_inverse=True) for codes in self._pool]
        self._member = traits.member(silent.rows).astype(np.float32)
        self._words: dict[tuple[int, int], str] = {}

    def scores(
        self, sample: Sample
    ) -> tuple[UInt8[np.ndarray, "units width"], dict[str, np.ndarray]]:
        """Rules as padded UTF-8 and the columns of `SCORES`; NaN where a half has too few rows."""
        words = np.zeros((len(sample.rows), WIDTH), np.uint8)
        columns = {name: np.full(len(sample.rows), np.nan) for name in SCORES}
        scored = np.flatnonzero(sample.enough)
        for start in range(0, len(scored), CHUNK):
            units = scored[start : start + CHUNK]
            learn, judge = self._halves(sample, units)
            enough = np.min([*learn.sizes, *judge.sizes], axis=0) >= LEAST
            learn, judge = (_Half(h.active[enough], h.silent[enough]) for h in (learn, judge))
            self._judged(sample.rows[units[enough]], learn, judge, units[enough], words, columns)
        return words, columns

    def _halves(self, sample: Sample, units: np.ndarray) -> tuple[_Half, _Half]:
        rows, silent = sample.rows[units], self._silent.mask(sample, units)
        first, pool = self._first[rows], self._first[self._silent.rows]
        known = rows >= 0
        return _Half(known & first, silent & pool), _Half(known & ~first, silent & ~pool)

    def _judged(
        self,
        rows: np.ndarray,
        learn: _Half,
        judge: _Half,
        units: np.ndarray,
        words: np.ndarray,
        columns: dict[str, np.ndarray],
    ) -> None:
        """Fill in the rules of some units, and what they are worth."""
        member = self._traits.member(rows.reshape(-1)).astype(np.float32)
        member = member.reshape(*rows.shape, member.shape[1])
        whole, one = self._learn(rows, learn, self._classes(member, learn))
        for unit, trait, values in zip(units, whole.trait, whole.values, strict=True):
            words[unit] = _padded(self._text(int(trait), values[values >= 0].tolist()))
        classes, (n, m) = self._classes(member, judge), judge.sizes
        for name, rule in (("rule", whole), ("rule_one", one)):
            hits, false = self._held(rows, judge, classes, rule)
            recall, alarm = hits / n, false / m
            columns[f"{name}_auroc"][units] = (1 + recall - alarm) / 2
            error = np.hypot(_error(hits, n), _error(false, m)) / 2
            columns[f"{name}_auroc_se"][units] = error
            if name == "rule":
                columns["rule_auroc_z"][units] = _difference(hits, n, false, m)
                columns["rule_recall"][units] = recall
                total = np.where(hits + false > 0, recall + alarm, np.nan)
                columns["rule_precision"][units] = recall / total

    def _classes(self, member: np.ndarray, half: _Half) -> tuple[np.ndarray, np.ndarray]:
        """Active and silent rows in each class, ``[units, classes]``; exact in float32."""
        active = half.active[:, None].astype(np.float32) @ member
        return active[:, 0].astype(np.int64), (half.silent @ self._member).astype(np.int64)

    def _learn(
        self, rows: np.ndarray, half: _Half, classes: tuple[np.ndarray, np.ndarray]
    ) -> tuple[_Best, _Best]:
        """The best rule of each unit and the best one of a single member."""
        shares = [count / size[:, None] for count, size in zip(classes, half.sizes, strict=True)]
        gains = shares[0] - shares[1]
        most = max(trait.most for trait in self._traits.many)
        best = np.full((len(rows), most), -1)
        best[:, 0] = gains.argmax(axis=1)
        gain, none = gains.max(axis=1) - PRICE, np.full(len(rows), -1)
        whole, one = (_Best(none.copy(), best.copy(), gain.copy()) for _ in range(2))
        for number, trait in enumerate(self._traits.many):
            values, gains = np.full((len(rows), trait.most), -1), np.zeros((len(rows), trait.most))
            share(
                best_values, even(len(rows)), trait.codes[rows], half.active, half.silent,
                *self._kinds[number], PRICE, values, gains,
            )  # fmt: skip
            gains = np.where(values >= 0, gains - PRICE, 0)
            some = values[:, 0] >= 0
            whole.replace(number, values, np.where(some, gains.sum(axis=1), -np.inf))
            one.replace(number, values[:, :1], np.where(some, gains[:, 0], -np.inf))
        return whole, one

    def _held(
        self, rows: np.ndarray, half: _Half, classes: tuple[np.ndarray, np.ndarray], rule: _Best
    ) -> tuple[np.ndarray, np.ndarray]:
        """On how many active and on how many silent rows each unit's rule holds."""
        place = np.where(rule.trait < 0, rule.values[:, 0], 0)[:, None]
        hits, false = (np.take_along_axis(count, place, axis=1)[:, 0] for count in classes)
        for number, trait in enumerate(self._traits.many):
            mine = np.flatnonzero(rule.trait == number)
            on, off = np.zeros(len(mine), np.int64), np.zeros(len(mine), np.int64)
            share(
                count_held, even(len(mine)), rule.values[mine], trait.codes[rows[mine]],
                half.active[mine], self._pool[number], half.silent[mine], on, off,
            )  # fmt: skip
            hits[mine], false[mine] = on, off
        return hits, false

    def _text(self, trait: int, values: list[int]) -> str:
        if trait < 0:
            return self._traits.classes[values[0]]
        for value in values:
            if (trait, value) not in self._words:
                self._words[trait, value] = self._traits.many[trait].words(value)
        return f"{self._traits.many[trait].name} {', '.join(self._words[trait, v] for v in values)}"


def _error(hits: np.ndarray, rows: np.ndarray) -> Float[np.ndarray, " units"]:
    """Standard error of a share, one success and one failure added so that it is never 0."""
    part = (hits + 1) / (rows + 2)
    return np.sqrt(part * (1 - part) / rows)


def _difference(
    hits: np.ndarray, rows: np.ndarray, false: np.ndarray, silent: np.ndarray
) -> Float[np.ndarray, " units"]:
    """Difference of two shares over its standard error, after Agresti & Caffo."""
    n, m = rows + 2, silent + 2
    p, q = (hits + 1) / n, (false + 1) / m
    return (p - q) / np.sqrt(p * (1 - p) / n + q * (1 - q) / m)


def _padded(text: str) -> UInt8[np.ndarray, " width"]:
    data = text.encode()
    if len(data) > WIDTH:
        data = data[: WIDTH - 3].decode(errors="ignore").encode() + "…".encode()
    return np.frombuffer(data.ljust(WIDTH, b"\0"), np.uint8)
