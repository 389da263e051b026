"""Disentangle: the senses of a neuron beside the latents that carry them, and the reverse."""

import numpy as np
import streamlit as st

from apps import _cache, carried, contexts, jobs, offer, panels, parts
from apps.navigation import link
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
SAVED = 24
"""Results listed where no unit is chosen."""
VERDICTS = (
    "**Holds up**: on documents that did not choose the latents, at least half of the neuron's "
    "activation and of its effect goes with them, and more than with random latents. **In part**: "
    "more than with random latents, but less than half. **Not told from random**: an interval "
    "reaches that of random latents."
)


def show() -> None:
    """Draw the page."""
    workspace = Workspace.at()
    st.title("Disentangle", anchor=False)
    asked = st.query_params.get("unit", "")
    if not asked:
        _choose(workspace)
        return
    try:
        address = Address.parse(asked)
        table = find(workspace, address)
        _draw(workspace, address, table)
    except InterpError as error:
        st.error(str(error))
        link("units", "All units", ":material/scatter_plot:")


def _choose(workspace: Workspace) -> None:
    """The ways in: neurons with many senses, and what was found before."""
    st.html(
        '<p class="lede">A polysemantic neuron fires on unlike things: it has several senses. Here '
        "one sees which latents of a dictionary carry each sense, and whether that holds up when "
        "they are ablated. Choose a neuron, then <i>Disentangle</i> on its page.</p>"
    )
    for item in _cache.tables(workspace):
        place, _, basis = item.name.rpartition("/")
        if item.state == "ready" and basis == "neurons":
            link(
                "units", f"Neurons of {parts.literal(place)} with most senses",
                ":material/scatter_plot:", site=place, basis=basis, sort="senses_effective",
            )  # fmt: skip
    link("units", "All units", ":material/scatter_plot:")
    made = sorted((workspace.root / "units").glob(f"*/*/*{disentangled.SUFFIX}/*.json"))
    if not made:
        return
    st.subheader("Found before", anchor=False)
    lines: list[list[str]] = []
    for path in made[:SAVED]:
        model, site, folder, file = path.parts[-4:]
        index, _, dictionary = file.removesuffix(".json").partition(".")
        unit = f"{model}/{site}/{folder.removesuffix(disentangled.SUFFIX)}/{index}"
        way = carried.go("disentangle", unit, unit=unit, dictionary=dictionary)
        lines.append([way, parts.text(dictionary)])
    st.html(parts.rows(["neuron", "by the latents of"], lines))
    if len(made) > SAVED:
        st.caption(f"The first {SAVED} of {len(made):,}.")


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
        "Dictionary", known, index=first, key="dictionary", bind="query-params", width=420,
        help="whose latents the neuron is taken apart into",
    )  # fmt: skip
    last = offer.latest(workspace, "disentangle", [f"--dictionary={chosen}", str(address)])
    if last is not None and last.live:
        offer.watch(workspace, last)
    found = None
    if chosen in made:
        try:
            found = disentangled.read(made[chosen], table)
        except InterpError as error:
            st.warning(str(error), icon=":material/warning:")
    if found is not None:
        _result(workspace, address, table, found)
    elif last is None or not last.live:
        _offer(workspace, str(address), chosen, last)


def _offer(workspace: Workspace, unit: str, dictionary: str, last: jobs.Job | None) -> None:
    st.info(
        "Not computed yet. A job looks through the stored activations for rows of each sense, "
        "splits the neuron into the dictionary's latents there, and ablates the latents that carry "
        "most, beside random ones."
    )
    effect = st.toggle(
        "Also measure the effect on the model's predictions", True, key="effect",
        help="needs the model; without it, ablation is judged by the neuron's activation alone",
    )  # fmt: skip
    flags = [f"--dictionary={dictionary}", *([] if effect else ["--no-model"])]
    label = "Find the latents that carry each sense"
    offer.begin(workspace, "disentangle", label, [*flags, "--", unit], last)
    st.caption("The same from the command line:")
    st.code(f"interp disentangle {unit} {' '.join(flags)}", language="bash")
    _settings(unit, dictionary)


def _settings(unit: str, dictionary: str) -> None:
    link(
        "jobs", "With other settings", ":material/tune:",
        verb="disentangle", unit=unit, dictionary=dictionary,
    )  # fmt: skip


def _result(workspace: Workspace, address: Address, table: UnitTable, found: Disentangled) -> None:
    st.markdown(f"**{carried.summary(found)}**")
    st.caption(VERDICTS)
    store, missing = panels.source(workspace, table)
    if store is None:
        st.warning(missing, icon=":material/link_off:")
    rules = _rules(workspace, address, found.dictionary)
    for sense in found.senses:
        if sense.sense is not None:
            _sense(address, found, sense, rules, store)
    st.subheader("Senses by latents", anchor=False)
    st.caption(
        "How much each latent (by number) adds to the neuron's activation, mean over the rows of a "
        "sense. Each row adds up exactly: latents, decoder bias and what the dictionary does not "
        "reconstruct (error). Blue adds, orange takes away; carriers are framed. "
        + _agreement(found)
    )
    st.html(carried.heat(found))
    st.subheader("Do they hold up?", anchor=False)
    st.caption(
        "Each sense's carriers are ablated on documents that did not choose them, beside equally "
        "many random active latents scaled to the same norm. Effect: of the neuron on the next "
        "token, in the metric of KL. KL: how far predictions move, in nats, when the neuron, the "
        "carriers or random latents are ablated. Brackets: 95 %."
    )
    st.html(carried.tests(found))
    crossed = carried.crossed(found)
    if crossed:
        st.subheader("Is each sense its own?", anchor=False)
        st.caption(
            "Share of the neuron's activation removed in each sense's rows by the carriers of each "
            "sense. Latents of one sense only leave the others alone."
        )
        st.html(crossed)
    st.divider()
    _settings(str(address), found.dictionary)
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
    address: Address,
    found: Disentangled,
    sense: CarriedSense,
    rules: list[str],
    store: ActivationStore | None,
) -> None:
    text = ""
    with st.container(border=True, gap="small"):
        st.html(carried.head(sense))
        if store is not None and 0 <= sense.exemplar < store.rows:
            passage = contexts.passage(
                store, sense.exemplar, float("nan"), np.zeros(2 * REACH + 1), REACH, REACH, REACH
            )
            st.html(contexts.listed([passage], 1.0, numbers=False))
            before = passage.tokens[: passage.peak + 1]
            text = "".join(token.text for token in before if not token.special)[-LONGEST:]
        if sense.carriers:
            st.html(carried.carriers(found, sense, rules, text))
        else:
            st.caption("Too few documents, or no latent adds to it.")
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
