"""Colours and shapes of bases: the same everywhere, safe for colour-blind readers, never alone.

Neurons are orange circles, controls grey triangles, dictionaries blue squares and on from there
(Okabe and Ito's palette, darkened for light pages and lightened for dark ones). A shape goes with
every colour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

STYLE = Path(__file__).with_name("style.css")

# Streamlit fetches a material icon's favicon from the network; a drawing of our own stays here.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="5" cy="10" r="4" '
    'fill="#d57f00"/><rect x="8" y="2" width="6.5" height="6.5" fill="#0072b2"/></svg>'
)


@dataclass(frozen=True, slots=True)
class Mark:
    """How one basis is drawn."""

    light: str
    dark: str
    symbol: str
    """ECharts' name of the shape."""
    shape: str
    """The stylesheet's name of the shape."""

    def colour(self, dark: bool) -> str:
        """The colour on the given page."""
        return self.dark if dark else self.light


NEURONS = Mark("#d57f00", "#f0ab2e", "circle", "circle")
CONTROL = Mark("#767b82", "#9aa0a8", "triangle", "triangle")
DICTIONARIES = (
    Mark("#0072b2", "#5fb4e6", "rect", "square"),
    Mark("#008a65", "#3fc39b", "diamond", "diamond"),
    Mark("#a8518a", "#d98fc0", "roundRect", "square"),
    Mark("#8a6d00", "#d8c04a", "pin", "diamond"),
)


def marks(bases: Sequence[str]) -> dict[str, Mark]:
    """The mark of each basis of a site; dictionaries take theirs in alphabetical order."""
    chosen: dict[str, Mark] = {}
    learned = 0
    for basis in sorted(bases):
        if basis == "neurons":
            chosen[basis] = NEURONS
        elif is_control(basis):
            chosen[basis] = CONTROL
        else:
            chosen[basis] = DICTIONARIES[learned % len(DICTIONARIES)]
            learned += 1
    return chosen


def is_control(basis: str) -> bool:
    """Whether a basis is there only to compare with."""
    return basis.startswith("random")


def unit_noun(basis: str) -> str:
    """What one unit of a basis is called."""
    if basis == "neurons":
        return "neuron"
    return "direction" if is_control(basis) else "latent"
