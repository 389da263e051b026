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
from jaxtyping import Float, Int64, UInt8

from interp.features.sample import Sample, Silent
from interp.features.traits import Traits
from interp.store import ActivationStore

LEAST = 8
"""Active and silent rows needed in each half."""
PRICE = 0.01
WIDTH = 160
"""Bytes of UTF-8 kept of a rule."""

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
class _Rule:
    trait: int
    """Place among the traits of many values; -1 for a class."""
    values: Int64[np.ndarray, " n"]
    """The values, or the one class."""
    gain: float


class Rules:
    """Learns and judges rules on the rows of one store."""

    def __init__(self, store: ActivationStore, traits: Traits, silent: Silent, seed: int) -> None:
        """Halve the documents and look up the traits of the silent rows."""
        self._traits, self._silent = traits, silent
        draw = np.random.default_rng([seed, 0x4A1F])
        halves = draw.permutation(len(store.documents)) % 2
        self._first = halves[store.document_index] == 0
        self._codes = [trait.codes[silent.rows] for trait in traits.many]
        self._member = traits.member(silent.rows)

    def scores(
        self, sample: Sample
    ) -> tuple[UInt8[np.ndarray, "units width"], dict[str, np.ndarray]]:
        """Rules as padded UTF-8 and the columns of `SCORES`; NaN where a half has too few rows."""
        units = len(sample.rows)
        words = np.zeros((units, WIDTH), np.uint8)
        columns = {name: np.full(units, np.nan) for name in SCORES}
        for unit in sample.scored():
            rows, silent = sample.of(unit)[0], self._silent.of(sample, unit)
            learn, judge = self._first[rows], self._first[self._silent.rows[silent]]
            counts = (learn.sum(), (~learn).sum(), judge.sum(), (~judge).sum())
            if min(counts) < LEAST:
                continue
            whole, one = self._learn(rows[learn], silent[judge])
            words[unit] = _padded(self._text(whole))
            for name, rule in (("rule", whole), ("rule_one", one)):
                hit = self._holds(rule, rows[~learn], None)
                false = self._holds(rule, None, silent[~judge])
                recall, alarm = float(hit.mean()), float(false.mean())
                columns[f"{name}_auroc"][unit] = (1 + recall - alarm) / 2
                columns[f"{name}_auroc_se"][unit] = np.hypot(_error(hit), _error(false)) / 2
                if name == "rule":
                    columns["rule_auroc_z"][unit] = _difference(hit, false)
                    columns["rule_recall"][unit] = recall
                    total = recall + alarm
                    columns["rule_precision"][unit] = recall / total if total else np.nan
        return words, columns

    def _learn(self, rows: np.ndarray, silent: np.ndarray) -> tuple[_Rule, _Rule]:
        """The best rule and the best one of a single member."""
        member = self._traits.member(rows)
        gains = member.mean(axis=0) - self._member[silent].mean(axis=0)
        best = int(gains.argmax())
        whole = one = _Rule(-1, np.array([best]), float(gains[best]) - PRICE)
        for number, trait in enumerate(self._traits.many):
            values, counts = np.unique(trait.codes[rows], return_counts=True)
            gain = counts / len(rows) - _frequency(self._codes[number][silent], values)
            usable = (counts >= 2) & (gain > PRICE)
            order = np.flatnonzero(usable)[np.argsort(-gain[usable], kind="stable")][: trait.most]
            if not len(order):
                continue
            found = _Rule(number, values[order], float((gain[order] - PRICE).sum()))
            whole = max(whole, found, key=lambda rule: rule.gain)
            single = _Rule(number, values[order[:1]], float(gain[order[0]] - PRICE))
            one = max(one, single, key=lambda rule: rule.gain)
        return whole, one

    def _holds(self, rule: _Rule, rows: np.ndarray | None, silent: np.ndarray | None) -> np.ndarray:
        """Whether a rule holds for rows of the store, or for places among the silent rows."""
        if rule.trait < 0:
            if rows is not None:
                return self._traits.member(rows)[:, rule.values[0]]
            return self._member[silent, rule.values[0]]
        trait = self._traits.many[rule.trait]
        codes = trait.codes[rows] if rows is not None else self._codes[rule.trait][silent]
        return np.isin(codes, rule.values)

    def _text(self, rule: _Rule) -> str:
        if rule.trait < 0:
            return self._traits.classes[int(rule.values[0])]
        trait = self._traits.many[rule.trait]
        return f"{trait.name} {', '.join(trait.words(int(value)) for value in rule.values)}"


def _frequency(codes: np.ndarray, values: np.ndarray) -> Float[np.ndarray, " values"]:
    """Share of codes that equal each of the ascending values."""
    place = np.minimum(np.searchsorted(values, codes), len(values) - 1)
    hit = values[place] == codes
    return np.bincount(place[hit], minlength=len(values)) / max(len(codes), 1)


def _error(hits: np.ndarray) -> float:
    """Standard error of a share, one success and one failure added so that it is never 0."""
    share = (hits.sum() + 1) / (len(hits) + 2)
    return float(np.sqrt(share * (1 - share) / len(hits)))


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    """Difference of two shares over its standard error, after Agresti & Caffo."""
    n, m = len(one) + 2, len(other) + 2
    p, q = (one.sum() + 1) / n, (other.sum() + 1) / m
    return float((p - q) / np.sqrt(p * (1 - p) / n + q * (1 - q) / m))


def _padded(text: str) -> UInt8[np.ndarray, " width"]:
    data = text.encode()
    if len(data) > WIDTH:
        data = data[: WIDTH - 3].decode(errors="ignore").encode() + "…".encode()
    return np.frombuffer(data.ljust(WIDTH, b"\0"), np.uint8)
