"""The key / of the units page and of a unit's own: Streamlit gives letters to buttons, not this."""

from functools import cache
from typing import Any

from streamlit.components.v2 import component

SEARCH, FIELD = "search", "words"
"""Keys of the button that leads to the search, and of the field one searches in."""
_SCRIPT = """
export default function () {
  if (window.interpSlash) return;  // one listener for as long as the window is open
  window.interpSlash = true;
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.closest("input, textarea, select")) return;
    const field = document.querySelector(".st-key-FIELD input");
    const button = document.querySelector(".st-key-SEARCH button");
    if (!field && !button) return;
    event.preventDefault();
    field ? field.focus() : button.click();
  });
}
"""


def slash() -> None:
    """Let / search from the page that is drawn."""
    _component()(key="slash")


@cache
def _component() -> Any:
    script = _SCRIPT.replace("SEARCH", SEARCH).replace("FIELD", FIELD)
    return component("interp_keys", html="<span></span>", js=script)
