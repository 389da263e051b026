"""Going from unit to unit: through the list one came from, or else through the basis by index."""

from dataclasses import dataclass

import numpy as np

from interp.features.address import Address


@dataclass(frozen=True)
class Walk:
    """The list the units page showed when a unit was opened, in its order."""

    model: str
    site: str
    bases: tuple[str, ...]
    basis: np.ndarray
    index: np.ndarray
    order: str
    """What the list was sorted by."""

    def find(self, address: Address) -> int | None:
        """Where a unit stands in the list, or None."""
        if (address.model, address.site) != (self.model, self.site):
            return None
        if address.basis not in self.bases:
            return None
        same = self.basis == self.bases.index(address.basis)
        found = np.flatnonzero(same & (self.index == address.index))
        return int(found[0]) if len(found) else None

    def at(self, place: int) -> str:
        """The address at a place of the list."""
        basis = self.bases[int(self.basis[place])]
        return f"{self.model}/{self.site}/{basis}/{int(self.index[place])}"


@dataclass(frozen=True)
class Neighbours:
    """Where previous, next and random lead from a unit; None at an end."""

    previous: str | None
    next: str | None
    place: str
    """Where the unit stands, in words."""


def around(address: Address, count: int, walk: Walk | None) -> Neighbours:
    """The units before and after one.

    Args:
        address: the unit.
        count: how many units its basis has.
        walk: the list it was opened from, if any.
    """
    place = walk.find(address) if walk else None
    if walk is not None and place is not None:
        total = len(walk.index)
        return Neighbours(
            walk.at(place - 1) if place > 0 else None,
            walk.at(place + 1) if place + 1 < total else None,
            f"{place + 1:,} of {total:,} by {walk.order}",
        )
    stem = f"{address.model}/{address.site}/{address.basis}"
    return Neighbours(
        f"{stem}/{address.index - 1}" if address.index > 0 else None,
        f"{stem}/{address.index + 1}" if address.index + 1 < count else None,
        f"{address.index:,} of {count:,} by index",
    )


def random_unit(address: Address, alive: np.ndarray) -> str:
    """Another live unit of the same basis, or the unit itself if there is none."""
    others = alive[alive != address.index]
    index = int(np.random.default_rng().choice(others)) if len(others) else address.index
    return f"{address.model}/{address.site}/{address.basis}/{index}"
