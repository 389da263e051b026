"""Filtering, sorting and walking: against plain Python over the same numbers."""

import math

import numpy as np
import pytest

from apps.listing import Filter, Listing
from apps.walk import Walk, around, random_unit
from interp.errors import UnknownName
from interp.features.address import Address
from interp.features.table import UnitTable
from tests.apps.workspace import DEAD, LATENTS, MODEL, SITE


@pytest.fixture
def listing(built):
    names = ("neurons", LATENTS, "random")
    return Listing.of([UnitTable.open(built.units(MODEL, SITE, name)) for name in names])


def test_tables_lie_under_each_other(listing):
    assert len(listing) == 48 + 96 + 24
    assert listing.address(48 + 5) == f"{MODEL}/{SITE}/{LATENTS}/5"
    assert all(len(column) == len(listing) for column in listing.columns.values())


def test_filter_is_what_it_says(listing):
    wanted = Filter(bases=(LATENTS, "random"), least=0.4, most=0.6, density=(0.0, 0.03))
    score, density = listing.column("monosemanticity"), listing.column("density")
    expected = [
        row
        for row in range(len(listing))
        if listing.bases[listing.basis[row]] in wanted.bases
        and 0.4 <= score[row] <= 0.6
        and 0 < density[row] <= 0.03
    ]
    assert expected
    assert listing.select(wanted).tolist() == expected


def test_dead_units_only_on_request(listing):
    live = listing.select(Filter())
    everything = listing.select(Filter(dead=True))
    assert len(everything) - len(live) == 3
    assert DEAD not in live


def test_bounds_do_not_hide_dead_units_that_were_asked_for(listing):
    rows = listing.select(Filter(dead=True, density=(0.05, 1.0)))
    assert DEAD in rows


@pytest.mark.parametrize("ascending", [False, True])
def test_sort_is_stable_with_nan_last(listing, ascending):
    rows = listing.select(Filter(dead=True))
    by = listing.column("monosemanticity")
    ordered = listing.sort(rows, "monosemanticity", ascending=ascending)
    values = [float(by[row]) for row in ordered]
    finite = [value for value in values if not math.isnan(value)]
    assert finite == sorted(finite, reverse=not ascending)
    assert all(math.isnan(value) for value in values[len(finite) :])
    assert sorted(ordered.tolist()) == rows.tolist()


def test_unknown_column_names_the_known_ones(listing):
    with pytest.raises(UnknownName, match="density"):
        listing.column("densty")


def test_walk_follows_the_list_it_came_from(listing):
    rows = listing.sort(listing.select(Filter()), "density")
    walk = Walk(MODEL, SITE, listing.bases, listing.basis[rows], listing.index[rows], "density")
    here = Address.parse(listing.address(int(rows[4])))
    near = around(here, 48, walk)
    assert near.previous == listing.address(int(rows[3]))
    assert near.next == listing.address(int(rows[5]))
    assert near.place == f"5 of {len(rows)} by density"
    assert around(Address.parse(listing.address(int(rows[0]))), 48, walk).previous is None
    assert around(Address.parse(listing.address(int(rows[-1]))), 48, walk).next is None


def test_walk_goes_by_index_where_the_list_does_not_lead():
    elsewhere = Walk("other", SITE, ("neurons",), np.zeros(1), np.zeros(1), "density")
    for walk in (None, elsewhere):
        near = around(Address(MODEL, SITE, "neurons", 0), 48, walk)
        assert (near.previous, near.next) == (None, f"{MODEL}/{SITE}/neurons/1")
        assert around(Address(MODEL, SITE, "neurons", 47), 48, walk).next is None


def test_random_goes_to_a_live_unit():
    here = Address(MODEL, SITE, "neurons", 3)
    assert random_unit(here, np.array([9])) == f"{MODEL}/{SITE}/neurons/9"
    assert random_unit(here, np.array([], int)) == str(here)
    assert random_unit(here, np.array([here.index])) == str(here)
    drawn = {random_unit(here, np.array([here.index, 9, 11])) for _ in range(100)}
    assert drawn == {f"{MODEL}/{SITE}/neurons/{index}" for index in (9, 11)}
