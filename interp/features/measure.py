"""From the sums of one pass to the columns of a unit table.

A unit active on fewer than ``least_active`` rows is flagged and gets no score: NaN, never a number
that looks like one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from interp.features import control, labels, logits, monoscore, purity, rules, senses, tokens
from interp.features.accumulate import Accumulator, Rows, histogram_edges
from interp.features.bases import Basis, written_site
from interp.features.config import ExtractConfig
from interp.features.contexts import STRATA, choose, quantile_edges
from interp.features.meanings import Meanings
from interp.features.monoscore import MonoScore
from interp.features.sample import Sample, Silent
from interp.features.scoring import Scoring
from interp.features.table_writer import Contexts, Domains, Histogram, Logits
from interp.features.traits import Traits
from interp.features.windows import windows
from interp.store import ActivationStore

SCORES: Mapping[str, str] = {
    **monoscore.SCORES,
    **labels.SCORES,
    **tokens.SCORES,
    **purity.SCORES,
    **rules.SCORES,
    **senses.SCORES,
    **logits.SCORES,
    **control.SCORES,
}
"""The definition of every score that a table may hold, in words."""


@dataclass(frozen=True)
class Measured:
    """What a table holds of one basis."""

    columns: dict[str, np.ndarray]
    peaks: tuple[np.ndarray, np.ndarray]
    """Rows and values of the chosen contexts."""
    histogram: Histogram
    domains: Domains
    meanings: Meanings
    lens: Logits | None


class Measure:
    """Turns sums into scores; what it learns from the store serves every basis and site."""

    def __init__(
        self,
        store: ActivationStore,
        rows: Rows,
        scoring: Scoring,
        config: ExtractConfig,
        model: logits.Lens | None,
    ) -> None:
        """Learn what rules, senses and silent rows need."""
        self._store, self._labels = store, rows.labels
        # Imported rows may have no token ids; scores of what units fire on then have no meaning.
        self._has_tokens = bool(store.manifest.vocabulary) or bool(store.tokens.any())
        self._scoring, self._config, self._model = scoring, config, model
        self._groups = rows.labels.group[store.document_index]
        self._silent = Silent(store, rows.ranks)
        self._traits = Traits(store, rows.labels)
        self._rules = rules.Rules(store, self._traits, self._silent, config.seed)
        self._alike = senses.alike_below(scoring.vectors, self._silent.rows)

    def __call__(self, basis: Basis, first: int, stat: Accumulator, score: MonoScore) -> Measured:
        """Every column but control percentiles, the contexts, and what they mean.

        Args:
            basis: whose units.
            first: the first unit of the range that was added up.
            stat: sums of the range.
            score: further sums.
        """
        config, store = self._config, self._store
        active, (mean, std) = stat.active, stat.moments()
        sample = self._sample(stat)
        peaks = choose(
            (sample.top_rows, sample.top_values),
            (sample.rows, sample.values),
            sample.edges,
            store.document_index,
            config.contexts,
        )
        scored = score.result(config.least_active)
        columns: dict[str, np.ndarray] = stat.labels.scores(
            sample.rows, sample.values, store.document_index
        )
        ids, shares, more = stat.tokens.result()
        columns |= more
        strata: dict[str, np.ndarray] = {}
        for trait in self._traits.many:
            if f"{trait.name}_purity" in purity.SCORES:
                found = purity.purity(sample, trait.codes, self._groups)
                strata[trait.name] = found[0]
                for name, values in zip(("", "_se", "_ratio"), found[1:], strict=True):
                    columns[f"{trait.name}_purity{name}"] = values
        words, more = self._rules.scores(sample)
        columns |= more
        sense = senses.senses(
            sample,
            peaks[0],
            self._scoring.vectors,
            self._alike,
            config.seed,
            self._groups,
            first,
        )
        columns |= sense.columns
        lens, more = self._lens(basis, first, sample)
        columns |= more
        columns = {name: np.where(sample.enough, each, np.nan) for name, each in columns.items()}
        mono = vars(scored)
        if not self._has_tokens:
            mono = {k: v if v.dtype.kind == "i" else v * np.nan for k, v in mono.items()}
            shares = np.zeros_like(shares)
        columns |= {
            "density": active / max(stat.rows, 1),
            "active": active,
            "mean": mean,
            "std": std,
            "max": stat.max,
            **mono,
            "dead": active == 0,
            "rare": (active > 0) & (scored.scored_rows < config.least_active),
        }
        domains = Domains(names=self._labels.names["domain"], share=stat.labels.share("domain"))
        meanings = Meanings(
            languages=self._labels.names["language"],
            language_share=stat.labels.share("language"),
            token=ids,
            token_share=shares,
            purity=strata,
            purity_strata=purity.SHARES,
            rule=words,
            sense_share=sense.share,
            sense_exemplar=sense.exemplar,
            sense_of_context=sense.of_context,
            alike_below=self._alike,
        )
        histogram = Histogram(counts=stat.counts.astype(np.uint32), edges=histogram_edges())
        return Measured(columns, peaks, histogram, domains, meanings, lens)

    def contexts(self, basis: Basis, first: int, stat: Accumulator, measured: Measured) -> Contexts:
        """The chosen contexts with the activations around them; ``first`` as for the scores."""
        config, (rows, values) = self._config, measured.peaks
        around = windows(
            basis,
            self._store,
            rows,
            first=first,
            before=config.before,
            after=config.after,
            codes=stat.codes,
            batch=config.batch,
        )
        return Contexts(
            strata=STRATA,
            before=config.before,
            after=config.after,
            rows=rows,
            values=values,
            windows=around,
        )

    def _sample(self, stat: Accumulator) -> Sample:
        rows, ranks, values = stat.sample.result()
        top_rows, _, top_values = stat.strongest.result()
        edges = quantile_edges(stat.counts, histogram_edges(), values, stat.max)
        active = stat.active
        enough = (active >= self._config.least_active) & self._has_tokens
        return Sample(rows, ranks, values, top_rows, top_values, edges, active, enough)

    def _lens(
        self, basis: Basis, first: int, sample: Sample
    ) -> tuple[Logits | None, dict[str, np.ndarray]]:
        if self._model is None:
            return None, {}
        store = self._store
        size = len(store.vocabulary) if store.manifest.vocabulary else None
        following = logits.Following(store, sample, self._silent)
        place = store.site(written_site(basis))
        directions = basis.directions()[first : first + len(sample.rows)]
        found = logits.logits(directions, place, self._model, following, size)
        return found if found is not None else (None, {})
