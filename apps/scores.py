"""The scores of one unit by the question they answer, each with what it is to be judged against.

Which score answers what, and on which planted units it told pure from mixed, is
`interp/features/README.md` in one table.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from apps import parts
from interp.features.table import UnitTable

Sampled = Literal["scored", "active", "sample", "vocabulary"]
"""What a score is measured on: scored tokens, all active tokens, the unit's random sample of active
tokens, or the vocabulary."""


@dataclass(frozen=True)
class Score:
    """What is known about one score beside its value."""

    name: str
    on: Sampled
    proven: str = ""
    """On which planted units it told pure from mixed; nothing if it was checked by formula only."""
    chance: str = ""
    """What a meaningless unit has, where that is known."""


QUESTIONS: tuple[tuple[str, tuple[Score, ...]], ...] = (
    (
        "Does it fire in one kind of context?",
        (Score("monosemanticity", "scored", "topics", "0"), Score("monoscore", "scored")),
    ),
    (
        "Does it follow one word?",
        (Score("token_purity", "sample", "words"), Score("token_share", "active", "words")),
    ),
    (
        "How many things is it?",
        (
            Score("senses_effective", "sample", "words, topics"),
            Score("senses", "sample"),
            Score("senses_share", "sample", "words"),
            Score("senses_scattered", "sample"),
            Score("senses_stability", "sample"),
        ),
    ),
    (
        "Which words describe it, and how far?",
        (
            Score("rule_auroc", "sample", chance="½"),
            Score("rule_precision", "sample", chance="½"),
            Score("rule_recall", "sample"),
            Score("rule_one_auroc", "sample", "words", "½"),
        ),
    ),
    (
        "Does it mean the same when it is weak?",
        tuple(
            Score(name, "sample")
            for name in (
                "token_purity_ratio",
                "domain_purity",
                "domain_purity_ratio",
                "language_purity",
                "language_purity_ratio",
            )
        ),
    ),
    (
        "Does it belong to a kind of text or language?",
        tuple(
            Score(f"{label}{end}", "active")
            for label in ("domain", "language")
            for end in ("s_effective", "_auroc", "_selectivity")
        ),
    ),
    ("How abstract is it?", (Score("abstractness", "active"),)),
    (
        "Does what it promotes follow it?",
        (Score("logit_agreement", "sample", chance="½"), Score("logit_kurtosis", "vocabulary")),
    ),
)
KNOWN = {score.name: score for _, scores in QUESTIONS for score in scores}
"""Every score that has a place in the table."""
HEADER = ("score", "value", "95 % interval", "null", "above controls", "measured on", "trust")


def choices(columns: Mapping[str, object]) -> list[str]:
    """The columns by which units can be compared: scores first, then everything else."""
    scores = [name for name in KNOWN if name in columns]
    return scores + sorted(set(columns) - {*scores, "dead", "rare"})


def rows(table: UnitTable, values: Mapping[str, float]) -> Iterator[tuple[str, list[list[str]]]]:
    """Each question with its scores as cells of HTML; questions that no column answers left out.

    Args:
        table: says what is experimental, and how large the samples are.
        values: every column of the unit.
    """
    for question, scores in QUESTIONS:
        lines = [_line(table, values, score) for score in scores if score.name in values]
        if lines:
            yield question, lines


def interval(values: Mapping[str, float], name: str) -> tuple[float, float] | None:
    """A score's 95 % interval, if its standard error was measured."""
    value, error = values.get(name, float("nan")), values.get(f"{name}_se", float("nan"))
    if value != value or error != error:
        return None
    return value - 1.96 * error, value + 1.96 * error


def _line(table: UnitTable, values: Mapping[str, float], score: Score) -> list[str]:
    value = values[score.name]
    between = interval(values, score.name)
    span = f"{parts.number(between[0])} to {parts.number(between[1])}" if between else "–"
    return [
        f'<span title="{parts.text(table.scores.get(score.name, ""))}">{parts.text(score.name)}'
        "</span>",
        f"<b>{parts.number(value)}</b>",
        span,
        _null(values, score),
        parts.percent(values.get(f"{score.name}_control", float("nan"))),
        parts.text(_measured(table, values, score) if value == value else "–"),
        _trust(table, score),
    ]


def _null(values: Mapping[str, float], score: Score) -> str:
    if score.name == "monoscore" and "monoscore_null" in values:
        null, spread = values["monoscore_null"], values.get("monoscore_null_sd", float("nan"))
        return f"{parts.number(null)} ± {parts.number(spread)}"
    z = values.get("monoscore_z", float("nan"))
    if score.name == "monosemanticity" and z == z:
        return f"0, z {parts.number(z)}"
    return score.chance or "–"


def _measured(table: UnitTable, values: Mapping[str, float], score: Score) -> str:
    """How many tokens a score rests on, in words."""
    active = int(values.get("active", 0))
    if score.on == "vocabulary":
        return "the vocabulary"
    if score.on == "scored":
        return f"{int(values.get('scored_rows', 0)):,} scored tokens"
    size = table.provenance.get("config", {}).get("reservoir")
    if score.on == "sample" and isinstance(size, int):
        half = ", judged on half" if score.name.startswith("rule") else ""
        return f"{min(size, active):,} sampled tokens{half}"
    return f"{active:,} active tokens"


def _trust(table: UnitTable, score: Score) -> str:
    if table.scores.get(score.name, "").startswith("experimental"):
        return parts.tag("experimental", "warn")
    return parts.tag(score.proven, "good") if score.proven else parts.tag("formula only")
