"""Disentangle: the senses of a neuron beside the latents that carry them, and the reverse."""

import numpy as np
import streamlit as st

from apps import _cache, carried, contexts, panels, parts
from apps.navigation import link
from apps.tokens import plain
from apps.views.unit import find
from interp.errors import InterpError
from interp.features import disentangled
from interp.features.address import Address
from interp.features.disentangled import CarriedSense, Disentangled
from interp.features.spread import Spread, spread
from interp.features.table import UnitTable
from interp.store import ActivationStore
from interp.workspace import Workspace

REACH = 10
"""Tokens shown on either side of a sense's exemplar."""
LONGEST = 1000
"""Characters of it handed on in a link: tokens may be of any length."""
NEURONS = 12
"""Neurons shown of a latent."""


def show() -> None:
    """Draw the page."""
    workspace = Workspace.at()
    st.title("Disentangle", anchor=False)
    asked = st.query_params.get("unit", "")
    if not asked:
        st.caption("Which latents carry each sense of a neuron. Choose a neuron, then its button.")
        link("units", "All units", ":material/scatter_plot:")
        return
    try:
        address = Address.parse(asked)
        table = find(workspace, address)
        _draw(workspace, address, table)
    except InterpError as error:
        st.error(str(error))
        link("units", "All units", ":material/scatter_plot:")


def _draw(workspace: Workspace, address: Address, table: UnitTable) -> None:
    st.html(f'<div class="addr">{parts.text(address)}</div>')
    link("unit", "Unit page", ":material/target:", unit=str(address))
    if table.kind == "neurons":
        _neuron(workspace, address, table)
    else:
        _latent(workspace, address, table)


# -- a neuron -----------------------------------------------------------------------------------


def _neuron(workspace: Workspace, address: Address, table: UnitTable) -> None:
    prefix = f"{address.model}/{address.site}/"
    known = [
        item.name.removeprefix(prefix)
        for item in _cache.dictionaries(workspace)
        if item.state == "ready" and item.name.startswith(prefix)
    ]
    if not known:
        st.info(
            f"{address.site} has no finished dictionary, so there are no latents to take neurons "
            f"apart into. `interp train {table.store} {address.site}` makes one."
        )
        return
    made = disentangled.found(table, address.index)
    first = next((at for at, each in enumerate(known) if each in made), 0)
    chosen = st.selectbox(
        "Dictionary", known, index=first, key="dictionary", bind="query-params", width=420
    )
    if chosen not in made:
        _offer(workspace, address, table, chosen)
        return
    try:
        found = disentangled.read(made[chosen], table)
    except InterpError as error:
        st.warning(str(error), icon=":material/warning:")
        _offer(workspace, address, table, chosen)
        return
    _result(workspace, address, table, found)


def _offer(workspace: Workspace, address: Address, table: UnitTable, dictionary: str) -> None:
    st.info(
        "Not computed yet. It looks through the stored activations for rows of each sense, splits "
        "the neuron into the dictionary's latents there, and ablates the latents that carry most."
    )
    if st.button("Find the latents that carry each sense", type="primary", key="compute"):
        bar = st.progress(0.0, "starting")

        def report(done: int, total: int, note: str = "") -> None:
            bar.progress(min(done / max(total, 1), 1.0), note)

        _cache.disentangle(workspace, table, address.index, dictionary, report)
        st.rerun()
    st.caption("The same from the command line:")
    st.code(f"interp disentangle {address} --dictionary {dictionary}", language="bash")


def _result(workspace: Workspace, address: Address, table: UnitTable, found: Disentangled) -> None:
    st.markdown(f"**{carried.summary(found)}**")
    st.markdown(
        "**Senses by latents**",
        help="Mean contribution of each latent to the neuron's activation, over rows of a sense",
    )
    st.html(carried.heat(found))
    st.caption(
        "Each row adds up exactly: latents, decoder bias and what the dictionary does not "
        "reconstruct. Blue adds, orange takes away; carriers are framed. " + _agreement(found)
    )
    st.markdown("**Do they hold up?**", help="Carriers are chosen on half of the documents")
    st.html(carried.tests(found))
    st.caption(
        "Carriers are ablated on documents that did not choose them, beside equally many random "
        "active latents scaled to the same norm, over seeds. Effect: of the neuron on the next "
        "token, in the metric of KL. Brackets: 95 %."
    )
    crossed = carried.crossed(found)
    if crossed:
        st.markdown(
            "**Is each sense its own?**",
            help="Share of the neuron's activation removed in each sense's rows by the carriers "
            "of each sense; latents of one sense only leave the others alone",
        )
        st.html(crossed)
    store, missing = panels.source(workspace, table)
    if store is None:
        st.warning(missing, icon=":material/link_off:")
    for sense in found.senses:
        if sense.sense is not None:
            _sense(workspace, address, found, sense, store)
    st.divider()
    more = {"dictionary": found.dictionary, "store": table.store}
    st.html(parts.provenance(found.provenance, more))


def _agreement(found: Disentangled) -> str:
    if found.agreement is None:
        return ""
    return (
        f"Rows join the sense of the nearest exemplar; of the contexts on the unit page, "
        f"{found.agreement:.0%} fall into their own."
    )


def _sense(
    workspace: Workspace,
    address: Address,
    found: Disentangled,
    sense: CarriedSense,
    store: ActivationStore | None,
) -> None:
    st.markdown(f"**{carried.name(sense).capitalize()}**")
    text = ""
    if store is not None and 0 <= sense.exemplar < store.rows:
        passage = contexts.passage(
            store, sense.exemplar, float("nan"), np.zeros(2 * REACH + 1), REACH, REACH, REACH
        )
        st.html(contexts.listed([passage], 1.0, numbers=False))
        before = passage.tokens[: passage.peak + 1]
        text = "".join(token.text for token in before if not token.special)[-LONGEST:]
    stem = f"{address.model}/{address.site}"
    rules = _rules(workspace, address, found.dictionary)
    for latent in sense.carriers:
        unit = f"{stem}/{found.dictionary}/{latent}"
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            link("unit", f"Latent {latent}", ":material/target:", unit=unit)
            link("disentangle", "Its neurons", ":material/account_tree:", unit=unit)
            link("intervene", "Intervene", ":material/tune:", unit=unit, text=text)
            rule = rules[latent] if latent < len(rules) else ""
            if rule:
                st.html(f'<span class="prov">{parts.text(plain(rule, 160))}</span>')
    if not sense.carriers:
        st.caption("Too few documents, or no latent adds to it.")
    with st.container(horizontal=True):
        link("intervene", "Ablate the neuron here", ":material/tune:", unit=str(address), text=text)


def _rules(workspace: Workspace, address: Address, dictionary: str) -> list[str]:
    """What the latents' own table says they follow; nothing where they were not measured."""
    try:
        return _cache.table(workspace.units(address.model, address.site, dictionary)).rules
    except InterpError:
        return []


# -- a latent -----------------------------------------------------------------------------------


def _latent(workspace: Workspace, address: Address, table: UnitTable) -> None:
    folder = workspace.dictionary(address.model, address.site, address.basis)
    if not folder.is_dir():
        st.info(
            f"{address.basis} is no dictionary of this workspace, and only neurons have senses to "
            "take apart. Choose a neuron or a latent."
        )
        return
    found = spread(folder, address.index)
    st.markdown(
        f"**Written over {parts.number(found.written)} of {len(found.decoder):,} neurons, read "
        f"from {parts.number(found.read)} of {len(found.encoder):,}**",
        help="Participation ratio (Σw²)²/Σw⁴ of its decoder and encoder weights",
    )
    _neurons(workspace, address, found)


def _neurons(workspace: Workspace, address: Address, found: Spread) -> None:
    largest = np.argsort(-np.abs(found.decoder), kind="stable")[:NEURONS]
    total = float(np.square(found.decoder).sum())
    neurons = workspace.units(address.model, address.site, "neurons")
    signed = _cache.table(neurons).signed if neurons.is_file() else None
    same = len(found.decoder) == len(found.encoder)
    for neuron in largest.tolist():
        weight = float(found.decoder[neuron])
        reads = f", reads {found.encoder[neuron]:+.3f}" if same else ""
        unit = neuron if not signed else 2 * neuron + (weight < 0)
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            if signed is not None:
                target = f"{address.model}/{address.site}/neurons/{unit}"
                side = "+-"[unit % 2] if signed else ""
                link(
                    "disentangle", f"Neuron {neuron}{side}", ":material/account_tree:", unit=target
                )
            share = weight**2 / total if total > 0 else float("nan")
            st.html(
                f'<span class="prov">neuron {neuron}: writes <b>{weight:+.3f}</b>{reads}, '
                f"{parts.percent(share)} of its squared weights</span>"
            )
