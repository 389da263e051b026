"""What a unit means, on its page: rule, senses, purity by stratum, tokens and labels by mass."""

from collections.abc import Mapping

import numpy as np
import streamlit as st

from apps import contexts, parts, words
from apps.contexts import Passage
from apps.theme import marks
from apps.tokens import chip, plain
from interp.features.address import Address
from interp.features.meanings import Meaning, Sense
from interp.features.table import Stratum, UnitTable
from interp.store import ActivationStore

SHOWN = 3
"""Contexts shown of each sense."""


def rule(meaning: Meaning, values: Mapping[str, float]) -> None:
    """The unit in words, and how far the words hold on documents they were not learnt from."""
    if not meaning.rule:
        st.html('<p class="lede">No rule: the unit is active too rarely to learn one.</p>')
        return
    figures = " · ".join(
        f"{name} <b>{parts.number(values.get(f'rule_{name.lower()}', float('nan')))}</b>"
        for name in ("precision", "recall", "AUROC")
    )
    st.html(
        f'<p class="rule">{parts.text(plain(meaning.rule, len(meaning.rule)))}</p>'
        f'<p class="prov">held out: {figures} (chance: ½, –, ½)</p>'
    )


def purity(meaning: Meaning) -> None:
    """Whether the unit means below its top what it means at its top."""
    found = {name: shares for name, shares in meaning.purity.items() if _any(shares)}
    if not found:
        return
    strata = list(next(iter(found.values())))
    st.markdown(
        "**Purity by stratum**",
        help="Share of active tokens with the token, domain or language that is most common in "
        "the strongest tenth",
    )
    st.html(
        parts.rows(
            ["of", *strata],
            (
                [parts.text(name), *(parts.percent(round(shares[each], 3)) for each in strata)]
                for name, shares in found.items()
            ),
            numeric=range(1, len(strata) + 1),
        )
    )


def mass(meaning: Meaning, store: ActivationStore | None, address: Address, dark: bool) -> None:
    """Tokens and languages that hold the unit's activation mass."""
    colour = marks([address.basis])[address.basis].colour(dark)
    if store is not None and words.has_tokens(store) and meaning.tokens:
        st.markdown("**Tokens**", help="Share of the unit's summed activation on each token")
        lines = "".join(
            f'<span>{chip(words.word(store, token))}</span><i style="width:{100 * share:.1f}%;'
            f'--c:{colour}"></i><span class="v">{parts.percent(share)}</span>'
            for token, share in meaning.tokens
        )
        st.html(f'<div class="bars">{lines}</div>')
    languages = dict(list(meaning.languages.items())[:8])
    if len(languages) > 1:
        st.markdown("**Languages**", help="Share of the unit's summed activation in each language")
        st.html(parts.bars(languages, colour))


def senses(
    meaning: Meaning,
    table: UnitTable,
    store: ActivationStore,
    address: Address,
    values: Mapping[str, float],
    dark: bool,
) -> None:
    """The different things the unit fires on, each with its share of activation mass."""
    effective = parts.number(values.get("senses_effective", float("nan")))
    stability = parts.number(values.get("senses_stability", float("nan")))
    st.markdown(
        "**Senses**",
        help="Clusters of like contexts: alike by their token or by what stands around it",
    )
    if not meaning.senses:
        st.caption("Nothing recurs: no cluster of like contexts holds 5 % of the active tokens.")
        return
    colour = marks([address.basis])[address.basis].colour(dark)
    strata = table.contexts(address.index)
    blocks = [
        f'<div class="sense"><div class="bars"><span>sense {number}</span>'
        f'<i style="width:{100 * sense.share:.1f}%;--c:{colour}"></i>'
        f'<span class="v">{parts.percent(round(sense.share, 4))} of mass</span></div>'
        f"{contexts.listed(_passages(table, store, sense, strata), values['max'], numbers=False)}"
        "</div>"
        for number, sense in enumerate(meaning.senses, start=1)
    ]
    scattered = parts.percent(round(values.get("senses_scattered", float("nan")), 4))
    st.html("".join(blocks))
    st.caption(
        f"Effective number of senses {effective}; {scattered} of mass in no sense; "
        f"stability on random halves {stability} (1 = the same clusters again)."
    )


def _passages(
    table: UnitTable, store: ActivationStore, sense: Sense, strata: list[Stratum]
) -> list[Passage]:
    """Contexts of a sense: its exemplar first, then the strongest, each row once."""
    found = {
        int(strata[stratum].rows[place]): (strata[stratum], int(place))
        for stratum, place in sense.contexts
        if place < len(strata[stratum].rows)
    }
    rows = sorted(found, key=lambda row: (row != sense.exemplar, -_value(found[row])))
    if not rows and 0 <= sense.exemplar < store.rows:
        # No shown context belongs to it, so no activations around its exemplar are known.
        nothing = np.zeros(table.before + 1 + table.after)
        far = (table.before, table.before, table.after)
        return [contexts.passage(store, sense.exemplar, float("nan"), nothing, *far)]
    return [contexts.read(table, store, *found[row]) for row in rows[:SHOWN]]


def _value(place: tuple[Stratum, int]) -> float:
    stratum, at = place
    return float(stratum.values[at])


def _any(shares: Mapping[str, float]) -> bool:
    return any(share == share for share in shares.values())
