"""What language models said of a unit (`interp explain`), and how it did on held-out contexts."""

import streamlit as st

from apps import _cache, parts
from apps.tokens import plain
from interp.errors import FormatError
from interp.features.address import Address
from interp.features.explain.files import Explained
from interp.features.table import UnitTable

LONGEST = 400
"""Characters of an explanation that are shown."""


def explained(table: UnitTable, address: Address) -> None:
    """Each explanation on a line; nothing where nobody was asked."""
    try:
        found = _cache.explanations(table).get(address.index, [])
    except FormatError as error:
        st.warning(str(error), icon=":material/warning:")
        return
    if found:
        st.html("".join(line(each) for each in found))


def line(each: Explained) -> str:
    """An explanation as HTML; its text is a stranger's."""
    return (
        f'<div class="note"><b>{parts.text(plain(each.text, LONGEST))}</b>'
        f'<p class="prov">said by {parts.text(plain(each.model))}, shown {each.shown} contexts · '
        f"{_judged(each)}</p></div>"
    )


def _judged(each: Explained) -> str:
    found = each.detection
    if found is None:
        return "not judged on other contexts"
    return (
        f"held out: balanced accuracy <b>{parts.number(found.balanced_accuracy)}</b> "
        f"[{parts.number(found.low)}, {parts.number(found.high)}] over {found.active} active and "
        f"{found.silent} silent contexts (chance: ½)"
    )
