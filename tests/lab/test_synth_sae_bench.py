"""The benchmark's worlds and what a measurement says; its figures are in the slow quick forms."""

import pytest

from interp.errors import ConfigError
from interp.lab.planted import SYNTH_SAE_BENCH_V2, Planted
from interp.lab.results.synth_sae_bench import COLUMNS, PUBLISHED, SynthSaeBench


def test_the_full_form_is_the_published_world() -> None:
    full = SynthSaeBench.at("full")
    assert full.world(0) == SYNTH_SAE_BENCH_V2
    assert (full.k, full.tokens, full.lr) == (25, 200_000_000, 3e-4)
    asked = {each.quantity for each in full.expected()}
    assert {f"{column}, {kind}" for column in COLUMNS for kind in PUBLISHED} < asked


def test_the_quick_world_is_a_smaller_one_of_the_same_make() -> None:
    world = SynthSaeBench.at("quick").world(0)
    assert (world.features, world.d_in) == (2048, 384)
    whole, small = Planted(SYNTH_SAE_BENCH_V2), Planted(world)
    assert (whole.rates[0], whole.rates[-1]) == (small.rates[0], small.rates[-1])
    assert world.tree is not None
    assert SYNTH_SAE_BENCH_V2.tree is not None
    share = [each.tree.size() / each.features for each in (world, SYNTH_SAE_BENCH_V2)]
    assert share[0] == share[1]


def test_a_measurement_has_every_quantity_that_is_asked_for() -> None:
    tiny = SynthSaeBench(seeds=1, shrink=16, narrow=16, k=3, start_k=5, tokens=4096, rows=500)
    found = tiny.measure(0)
    assert {each.quantity for each in tiny.expected()} < set(found.values)
    gap = found.values["F1, Matryoshka"] - found.values["F1, BatchTopK"]
    assert found.values["F1, Matryoshka less BatchTopK"] == gap
    assert set(found.notes) == set(tiny.dictionaries())
    full = SynthSaeBench(tokens=4096)
    assert {each.quantity for each in full.expected()} < set(found.values)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="shrink must lie between 1 and 16, got 32"):
        SynthSaeBench(shrink=32)
    with pytest.raises(ConfigError, match="start_k at least k"):
        SynthSaeBench(k=30, start_k=20)
