"""Two rulers: one passage, a neuron's row above those of latents, linked token by token.

The browser's part is `rulers.js`: pointing at a token, or walking to it with the arrow keys, marks
it in every row and names the units that fire on it most. It receives data only, and puts it on the
page as text and never as markup.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from streamlit.components.v2 import component

from apps.theme import Mark
from apps.tokens import plain

HERE = Path(__file__).parent
TOP = 5
"""Units named for a token, per basis."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One unit along the passage."""

    name: str
    address: str
    basis: str
    share: np.ndarray
    """Per token, the share of the unit's own maximum that it reaches."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One basis on the passage."""

    stem: str
    """``model/site/basis``."""
    noun: str
    mark: Mark
    called: Callable[[int], str]
    """A unit's name within its basis."""
    share: np.ndarray
    """``[tokens, units]``, each unit by the share of its own maximum that it reaches."""

    @property
    def basis(self) -> str:
        """The basis' own name."""
        return self.stem.rpartition("/")[2]

    def row(self, unit: int) -> Row:
        """One unit as a row."""
        return Row(
            name=f"{self.noun} {self.called(unit)}",
            address=f"{self.stem}/{unit}",
            basis=self.basis,
            share=self.share[:, unit],
        )


def shares(activations: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Activations ``[tokens, units]`` over each unit's own maximum; 0 for a dead unit."""
    return np.where(largest > 0, activations / np.where(largest > 0, largest, 1), 0)


def alike(row: np.ndarray, others: np.ndarray, count: int) -> list[int]:
    """The units that fire where one does: by the sum over tokens of the product of both shares.

    Args:
        row: the one's share, ``[tokens]``.
        others: the others' shares, ``[tokens, units]``.
        count: at most how many; units that never fire together with it are left out.
    """
    return strongest(np.maximum(row, 0) @ np.maximum(others, 0), count)


def strongest(values: np.ndarray, count: int) -> list[int]:
    """The places of the largest values, largest first, those above 0 only."""
    places = np.argpartition(-values, min(count, len(values) - 1))[:count]
    ordered = places[np.lexsort((places, -values[places]))]
    return [int(place) for place in ordered if values[place] > 0]


def groups(pieces: Sequence[str]) -> list[list[int]]:
    """Token positions that are shown as one: a character's later bytes go with its first."""
    found: list[list[int]] = []
    for at, piece in enumerate(pieces):
        if piece or not found:
            found.append([at])
        else:
            found[-1].append(at)
    return found


def data(
    pieces: Sequence[str], rows: Sequence[Row], bases: Mapping[str, Measured], *, dark: bool
) -> dict[str, Any]:
    """What the browser draws.

    Args:
        pieces: each token's text.
        rows: the rows from the top.
        bases: every basis by name, of which the strongest units are named for each token.
        dark: whether the page is dark.
    """
    together = groups(pieces)

    def along(share: np.ndarray) -> list[float]:
        return [round(float(share[each].max()), 3) for each in together]

    top: list[list[list[Any]]] = []
    for each in together:
        named: list[list[Any]] = []
        for basis, measured in bases.items():
            peak = measured.share[each].max(axis=0)
            order = strongest(peak, TOP)
            named.append(
                [basis, [[u, measured.called(u), round(float(peak[u]), 3)] for u in order]]
            )  # fmt: skip
        top.append(named)
    return {
        "pieces": [plain(pieces[each[0]]) for each in together],
        "rows": [
            {"name": row.name, "address": row.address, "basis": row.basis,
             "share": along(row.share)}
            for row in rows
        ],
        "bases": {
            basis: {"stem": each.stem, "noun": each.noun, "colour": each.mark.colour(dark),
                    "shape": each.mark.shape}
            for basis, each in bases.items()
        },
        "top": top,
    }  # fmt: skip


def draw(shown: dict[str, Any], key: str) -> None:
    """Mount the rulers."""
    _component()(key=key, data=shown)


@cache
def _component() -> Any:
    return component(
        "interp_rulers",
        html='<div class="rulers"></div>',
        css=(HERE / "rulers.css").read_text(encoding="utf-8"),
        js=(HERE / "rulers.js").read_text(encoding="utf-8"),
    )
