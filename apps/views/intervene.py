"""Intervene: ablate, clamp or steer a unit on a text of one's own, beside a random direction."""

from typing import TYPE_CHECKING, cast

import numpy as np
import streamlit as st

from apps import _cache, contexts, parts, words
from apps.navigation import link
from apps.passage import passage
from apps.tokens import chip, legend, plain, strip
from apps.views.unit import find
from interp.errors import InterpError
from interp.features.address import Address
from interp.features.table import UnitTable
from interp.store import ActivationStore
from interp.workspace import Workspace

if TYPE_CHECKING:
    from apps.causes import Trial
    from interp.evaluate.causal.part import Kind

KINDS = ("ablate", "clamp", "steer")
WHAT = {
    "ablate": "The unit is silenced wherever it fires.",
    "clamp": "The unit has this activation everywhere.",
    "steer": "This activation is added everywhere.",
}
STEPS = 24
SHOWN = 6
"""Most likely tokens listed."""


def show() -> None:
    """Draw the page."""
    workspace = Workspace.at()
    st.title("Intervene", anchor=False)
    asked = st.text_input(
        "Unit", key="unit", bind="query-params", placeholder="model/site/basis/index", width=620
    )
    if not asked:
        st.caption("Change one unit while the model reads your text. Choose a unit first.")
        link("units", "All units", ":material/scatter_plot:")
        return
    try:
        address = Address.parse(asked)
        table = find(workspace, address)
        link("unit", "Unit page", ":material/target:", unit=str(address))
        _ask(workspace, address, table)
    except InterpError as error:
        st.error(str(error))


def _ask(workspace: Workspace, address: Address, table: UnitTable) -> None:
    largest = float(table.columns["max"][address.index])
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        kind = st.segmented_control(
            "Do", KINDS, default="ablate", key="kind", bind="query-params", required=True
        )
        value = 0.0
        if kind != "ablate":
            value = st.number_input(
                "Activation",
                value=float(f"{largest:.3g}"),
                key="value",
                bind="query-params",
                width=180,
                help=f"its largest over the store is {parts.number(largest)}",
            )
    st.caption(WHAT[kind])
    text = passage()
    if text is None:
        return
    store = _cache.store(workspace.store(table.store))
    contexts.check_match(table, store)
    from apps.causes import Asked
    from interp.evaluate.causal import Intervention

    wanted = Asked(
        address.index, text, Intervention(kind=cast("Kind", kind), value=float(value)), STEPS
    )
    _answer(_cache.trial(workspace, table, wanted), store, largest)


def _answer(trial: "Trial", store: ActivationStore, largest: float) -> None:
    effect = trial.effect
    if not max(effect.after.kl) > 0:
        st.info("Nothing changed: the unit does not fire on this text.")
    st.html(
        parts.facts(
            [
                (
                    "KL, nats a token",
                    parts.number(effect.kl),
                    _beside(effect.control_kl.low, effect.control_kl.high),
                ),
                (
                    "loss, nats a token",
                    f"{effect.delta_ce:+.3g}",
                    _beside(effect.control_delta_ce.low, effect.control_delta_ce.high),
                ),
                (
                    "most likely token changed",
                    parts.percent(round(effect.changed, 3)),
                    _beside(effect.control_changed.low, effect.control_changed.high),
                ),
            ]
        )
    )
    st.caption(
        "KL: how far the predictions move. Beside each figure: 95 % range of "
        f"{len(effect.controls)} random directions that push as far at every position."
    )
    _passage(trial, store, largest)
    _tokens(trial, store)
    st.markdown("**The model writes on**", help="Always the most likely token; nothing is drawn")
    titles = ("as it is", "with the unit changed", "with a random direction")
    for column, title, written in zip(st.columns(3), titles, trial.written, strict=True):
        with column:
            st.html(
                f'<div class="stratum"><b>{title}</b></div>'
                f'<div class="note"><p>{parts.text(plain(written, 2000))}</p></div>'
            )


def _beside(low: float, high: float) -> str:
    return f"random {parts.number(low)} to {parts.number(high)}"


def _passage(trial: "Trial", store: ActivationStore, largest: float) -> None:
    """The text twice: where the unit fires, and where the predictions moved."""
    ids = trial.effect.tokens[trial.first :].tolist()
    kl = trial.effect.after.kl[trial.first :]
    most = float(kl.max(initial=0.0))
    rows = (
        ("the unit's activation", trial.active, largest, legend(largest)),
        ("KL of the next token", kl.tolist(), most, legend(most, "KL") if most > 0 else ""),
    )
    for title, values, scale, key in rows:
        tokens = contexts.tokens(store, ids, trial.pieces, values)
        st.html(f'<div class="stratum"><b>{title}</b>{key}</div>{strip(tokens, scale)}')


def _tokens(trial: "Trial", store: ActivationStore) -> None:
    """Most likely next tokens at one position: as it is, changed, and with a random push."""
    effect, first = trial.effect, trial.first
    names = [f"{at}: {plain(piece)}" for at, piece in enumerate(trial.pieces) if piece]
    strongest = int(np.argmax(effect.after.kl[first:]))
    default = next((i for i, name in enumerate(names) if name.startswith(f"{strongest}:")), 0)
    picked = st.selectbox(
        "Next token after",
        names,
        index=default,
        key="position",
        bind="query-params",
        width=320,
        help="by default where the prediction moved most",
    )
    at = int(picked.partition(":")[0]) + first
    columns = (
        ("as it is", effect.before),
        ("with the unit changed", effect.after),
        ("with a random direction", effect.controls[0]),
    )
    before = set(effect.before.top[at][:SHOWN].tolist())
    for column, (title, found) in zip(st.columns(3), columns, strict=True):
        pairs = zip(
            found.top[at][:SHOWN].tolist(), found.probability[at][:SHOWN].tolist(), strict=True
        )
        lines = "".join(
            f"<span>{chip(words.word(store, token))}"
            f"{'' if token in before else parts.tag('new', 'warn')}</span>"
            f'<span class="v">{parts.percent(round(p, 4))}</span>'
            for token, p in pairs
        )
        with column:
            st.html(f'<div class="stratum"><b>{title}</b></div><div class="pair">{lines}</div>')
