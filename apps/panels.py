"""The panels of the unit page, one function each."""

from collections.abc import Mapping

import numpy as np
import streamlit as st

from apps import _cache, charts, contexts, keys, parts, walk, words
from apps import scores as judged
from apps.navigation import go
from apps.theme import marks, unit_noun
from apps.tokens import chip, legend
from interp.errors import InterpError
from interp.features.address import Address
from interp.features.table import UnitTable
from interp.store import ActivationStore
from interp.workspace import Workspace


def steps(address: Address, table: UnitTable) -> None:
    """Previous, next and random, by button and by key."""
    near = walk.around(address, table.n_units, st.session_state.get("walk"))
    alive = np.flatnonzero(table.columns["density"] > 0)

    def open_unit(target: str | None) -> None:
        if target:
            st.query_params["unit"] = target

    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            "Previous",
            icon=":material/arrow_back:",
            shortcut="k",
            type="tertiary",
            disabled=near.previous is None,
            on_click=open_unit,
            args=(near.previous,),
            key="previous",
        )
        st.button(
            "Next",
            icon=":material/arrow_forward:",
            shortcut="j",
            type="tertiary",
            disabled=near.next is None,
            on_click=open_unit,
            args=(near.next,),
            key="next",
        )
        st.button(
            "Random",
            icon=":material/shuffle:",
            shortcut="g",
            type="tertiary",
            on_click=lambda: open_unit(walk.random_unit(address, alive)),
            key="random",
        )
        if st.button(
            "Compare",
            icon=":material/compare_arrows:",
            shortcut="x",
            type="tertiary",
            help="what another dictionary or model has for this unit",
            key="compare",
        ):
            go("compare", one=f"{address.model}/{address.site}/{address.basis}", unit=str(address))
        if st.button(
            "Search", icon=":material/search:", type="tertiary", key=keys.SEARCH,
            help="units of this site whose rule holds a word",
        ):  # fmt: skip
            go("units", site=f"{address.model}/{address.site}")
        st.caption(f"{near.place} · keys: j, k, g, x, /")


def head(address: Address, table: UnitTable, values: Mapping[str, float], dark: bool) -> None:
    """Name, address and figures, each score with what it is judged against."""
    mark = marks([address.basis])[address.basis]
    noun = unit_noun(address.basis).capitalize()
    name = table.unit_name(address.index)
    flags = {"dead": "dead", "rare": "too rare to be scored"}
    tags = [parts.tag(why, "warn") for flag, why in flags.items() if values.get(flag)]
    st.html(
        f'<div class="unit-title"><h1>{parts.swatch(mark, dark)} {noun} {parts.text(name)}</h1>'
        f"{''.join(tags)}</div>"
        f'<div class="addr">{parts.text(address.model)}/{parts.text(address.site)}/'
        f"{parts.text(address.basis)}/<b>{address.index}</b></div>"
    )
    shown = {name: parts.number(value) for name, value in values.items()}

    def figure(name: str) -> str:
        return shown.get(name, "–")

    scored = f"z {figure('monoscore_z')} on {figure('scored_rows')} scored tokens"
    null = f"null {figure('monoscore_null')} ± {figure('monoscore_null_sd')}"
    tokens = f"{parts.number(int(values['active']))} of {table.rows:,} tokens"
    above = values.get("monosemanticity_control", float("nan"))
    newer = [
        ("above controls", parts.percent(above), "random directions of like density"),
        ("effective senses", figure("senses_effective"), f"stability {figure('senses_stability')}"),
    ]
    st.html(
        parts.facts(
            [
                ("monosemanticity", figure("monosemanticity"), scored),
                ("MonoScore", figure("monoscore"), null),
                *(newer if "senses_effective" in values else []),
                ("density", parts.percent(values["density"]), tokens),
                ("strongest activation", figure("max"), ""),
                ("mean activation", figure("mean"), f"± {figure('std')}"),
            ]
        )
    )


def source(workspace: Workspace, table: UnitTable) -> tuple[ActivationStore | None, str]:
    """The store a table's references point into, or None and why not."""
    try:
        store = _cache.store(workspace.store(table.store))
        contexts.check_match(table, store)
    except InterpError as error:
        return None, f"The contexts cannot be shown: {error}"
    return store, ""


def histogram(table: UnitTable, address: Address, dark: bool) -> None:
    """How often the unit fires how strongly."""
    counts, edges = table.histogram(address.index)
    colour = marks([address.basis])[address.basis].colour(dark)
    spec = charts.histogram(counts, edges, colour, dark=dark)
    if spec:
        st.markdown("**Activations**")
        alt = f"{int(np.sum(counts)):,} active tokens, in bins that double in width"
        st.echarts_chart(spec, height=210, key="histogram", alt=alt)


def domains(table: UnitTable, address: Address, dark: bool) -> None:
    """Where the unit's activation mass lies: one kind of text, or several."""
    shares = dict(list(table.domains(address.index).items())[:8])
    if shares:
        st.markdown("**Domains**", help="Share of the unit's summed activation in each domain")
        st.html(parts.bars(shares, marks([address.basis])[address.basis].colour(dark)))


def logits(table: UnitTable, unit: int, store: ActivationStore) -> None:
    """Tokens that writing this unit's direction makes more and less likely."""
    if not table.has_logits:
        st.caption(
            "No logit lens: this site does not write to the residual stream directly, or the units "
            "were measured without the model."
        )
        return
    sides = (("Promotes", table.promoted(unit)), ("Suppresses", table.suppressed(unit)))
    for column, (title, pairs) in zip(st.columns(2), sides, strict=True):
        lines = "".join(
            f'<span>{chip(words.word(store, token))}</span><span class="v">{value:+.2f}</span>'
            for token, value in pairs
        )
        with column:
            st.markdown(f"**{title}**", help="Logit lens: direction × final norm × unembedding")
            st.html(f'<div class="pair">{lines}</div>')


@st.fragment
def strata(table: UnitTable, store: ActivationStore, unit: int, scale: float) -> None:
    """Contexts, from the strongest to the weakest part of the unit's active range."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**Contexts**", width="content")
        near = st.segmented_control(
            "Length",
            ["short", "full"],
            default="full",
            key="length",
            bind="query-params",
            label_visibility="collapsed",
            required=True,
        )
        numbers = st.toggle("Values", key="values", bind="query-params")
        st.html(legend(scale), width="content")
    found = contexts.passages(table, store, unit, reach=6 if near == "short" else None)
    for name, passages in found:
        if not passages:
            continue
        low, high = passages[-1].value, passages[0].value
        span = f"{parts.number(low)} to {parts.number(high)}"
        st.html(
            f'<div class="stratum"><b>{parts.text(name)}</b> <span>{span}</span></div>'
            f"{contexts.listed(passages, scale, numbers=numbers)}"
        )


def scores(table: UnitTable, values: Mapping[str, float]) -> None:
    """Every score by the question it answers, beside what it is judged against."""
    st.markdown("**Scores**", help="Which score answers what, and how far it can be trusted")
    blocks = (
        f'<tr><th colspan="{len(judged.HEADER)}" class="group">{parts.text(question)}</th></tr>'
        + "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in line)}</tr>" for line in lines)
        for question, lines in judged.rows(table, values)
    )
    head = "".join(f"<th>{parts.text(name)}</th>" for name in judged.HEADER)
    st.html(
        f'<div class="scroll"><table class="rows scores"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(blocks)}</tbody></table></div>"
    )
    st.caption(
        "Above controls: share of random directions of like density that score lower, 50 % is "
        "chance. Trust: the kind of planted units on which the score told pure from mixed. "
        "Intervals take what they are computed from as independent."
    )


def made_by(address: Address, table: UnitTable) -> None:
    """Where the figures come from, and how to get them again."""
    more = {
        "store": table.store,
        "corpus": table.corpus,
        "tokens": f"{table.rows:,}",
        "table": table.path.name,
    }
    st.divider()
    st.html(parts.provenance(table.provenance, more))
    if table.scores:
        with st.expander("What the figures mean"):
            st.html(
                parts.rows(
                    ["figure", "definition"],
                    ([parts.text(name), parts.text(what)] for name, what in table.scores.items()),
                )
            )
    with st.expander("Reproduce"):
        seed = table.provenance.get("seed", 0)
        st.code(
            f"interp extract {table.store} {address.site} --bases {address.basis} --seed {seed}",
            language="bash",
        )
        st.code(
            "import interp\n\n"
            f"path = interp.Workspace.at().units({address.model!r}, {address.site!r}, "
            f"{address.basis!r})\n"
            "table = interp.UnitTable.open(path)\n"
            f"table.contexts({address.index})",
            language="python",
        )
