"""One unit, neuron or latent alike: what it fires on, how often, how strongly, how surely."""

import streamlit as st

from apps import _cache, explained, keys, meaning, panels, remarks, words
from apps.navigation import link
from apps.theme import unit_noun
from interp.errors import InterpError, UnknownName
from interp.features.address import Address
from interp.features.table import UnitTable
from interp.workspace import Workspace


def show() -> None:
    """Draw the page."""
    workspace = Workspace.at()
    asked = st.query_params.get("unit", "")
    if not asked:
        st.title("Unit", anchor=False)
        _choose()
        return
    try:
        address = Address.parse(asked)
        table = find(workspace, address)
    except InterpError as error:
        st.title("No such unit", anchor=False)
        st.error(str(error))
        _choose()
        return
    _draw(workspace, address, table)


def find(workspace: Workspace, address: Address) -> UnitTable:
    """The table a unit stands in.

    Raises:
        UnknownName: the workspace has no such table.
        FormatError: the table cannot be read, or has fewer units.
    """
    path = workspace.units(address.model, address.site, address.basis)
    if not path.is_file():
        known = [item.name for item in _cache.tables(workspace) if item.state == "ready"]
        name = f"{address.model}/{address.site}/{address.basis}"
        remedy = f"`interp extract {address.model} {address.site}` measures a site's units."
        raise UnknownName("unit table", name, known, remedy)
    table = _cache.table(path)
    table.check(address.index)
    return table


def _choose() -> None:
    st.caption("Choose one from the table, or put ?unit=model/site/basis/index in the URL.")
    link("units", "All units", ":material/scatter_plot:")


def _draw(workspace: Workspace, address: Address, table: UnitTable) -> None:
    dark = st.context.theme.type == "dark"
    values = {name: float(column[address.index]) for name, column in table.columns.items()}
    panels.steps(address, table)
    panels.head(address, table, values, dark)
    store, missing = panels.source(workspace, table)
    dead = values["density"] == 0
    found = None if dead else table.meaning(address.index)
    if store is not None and not words.has_tokens(store):
        st.warning(words.UNKNOWN, icon=":material/warning:")
        found = None
    if found is not None:
        meaning.rule(found, values)
    explained.explained(table, address)
    with st.container(horizontal=True, gap="medium"):
        behind = "the latents behind its senses" if table.kind == "neurons" else "its neurons"
        link("disentangle", f"Disentangle: {behind}", ":material/account_tree:", unit=str(address))
        link("intervene", "Intervene: change it in a text", ":material/tune:", unit=str(address))
    remarks.remarks(table, address)
    if dead:
        st.info(
            f"This {unit_noun(address.basis)} is dead: active on none of {table.rows:,} tokens, so "
            "there are no contexts. What it would write to the model is still shown."
        )
        if store is not None:
            panels.logits(table, address.index, store)
    else:
        left, right = st.columns([1, 2.2], gap="large")
        with left:
            panels.histogram(table, address, dark)
            panels.domains(table, address, dark)
            if found is not None:
                meaning.mass(found, store, address, dark)
            if store is not None:
                panels.logits(table, address.index, store)
        with right:
            if store is None:
                st.warning(missing, icon=":material/link_off:")
            else:
                if not words.has_text(store):
                    st.caption(words.POSITIONS)
                if found is not None:
                    meaning.senses(found, table, store, address, values, dark)
                panels.strata(table, store, address.index, values["max"])
        if found is not None:
            meaning.purity(found)
        panels.scores(table, values)
    panels.made_by(address, table)
    keys.slash()
