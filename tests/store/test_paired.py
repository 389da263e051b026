"""Two stores read as one: only if their rows are the same."""

import numpy as np
import pytest

from interp.cli import main
from interp.errors import ConfigError, DataError, UnknownName
from interp.files import read_json
from interp.sae import load_dictionary, relative_norms
from interp.store import ActivationStore, PairedStore, ShuffledBatches
from tests.stores import make_store

WIDTHS = {"resid_post.0": 16, "mlp_post.0": 8}


def two(folder, **second) -> tuple[ActivationStore, ActivationStore]:
    tokens = np.arange(600) % 7
    sinks = np.arange(600) % 50 == 0
    first = make_store(folder / "base", sites=WIDTHS, tokens=tokens, sinks=sinks)
    changed = {"tokens": tokens, "sinks": np.arange(600) % 50 == 1, "model": "tuned", **second}
    return first, make_store(folder / "tuned", sites=WIDTHS, seed=1, **changed)


def test_a_pair_reads_both_side_by_side(tmp_path) -> None:
    first, second = two(tmp_path, dtype="bfloat16")
    pair = PairedStore(first, second)
    expected = {f"{name}@{store}" for store in ("base", "tuned") for name in WIDTHS}
    assert set(pair.sites) == expected
    assert (pair.model, pair.name, pair.rows) == ("toy+tuned", "base+tuned", 600)
    site = pair.site("resid_post.0")
    assert (site.name, site.width) == ("resid_post.0@base+resid_post.0@tuned", 32)
    found = pair.read(site.name, 10, 400)
    parts = [store.read("resid_post.0", 10, 400) for store in (first, second)]
    np.testing.assert_array_equal(found, np.concatenate(parts, axis=1))
    np.testing.assert_array_equal(pair.sinks, first.sinks | second.sinks)
    assert pair.sinks.sum() == 24
    assert pair.site("resid_post.0@tuned").width == 16
    batch = next(ShuffledBatches(pair, site.name, batch=8, seed=0))
    rows = [np.flatnonzero((parts[0] == row[:16]).all(axis=1)) for row in batch]
    for row, place in zip(batch, rows, strict=True):
        for each in place:
            np.testing.assert_array_equal(row[16:], parts[1][each])
    assert pair.digest != PairedStore(second, first).digest
    with pytest.raises(UnknownName, match=r"unknown site of stores base\+tuned 'resid_post.1'"):
        pair.site("resid_post.1")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"rows": 500, "tokens": None, "sinks": None}, "have 600 and 500 rows; capture both"),
        ({"documents": 5}, "base and tuned hold other documents; capture both with the same"),
        ({"context": 16}, "hold other positions, first in row 15; capture both"),
        ({"tokens": (np.arange(600) + (np.arange(600) > 9)) % 7}, "other tokens, first in row 10"),
    ],
)
def test_other_rows_are_refused(tmp_path, second, message) -> None:
    with pytest.raises(DataError, match=message):
        PairedStore(*two(tmp_path, **second))


def test_a_store_is_no_pair_with_itself(tmp_path) -> None:
    first, _ = two(tmp_path)
    with pytest.raises(ConfigError, match="both stores are called base; rename"):
        PairedStore(first, first)


def test_a_crosscoder_of_two_models_on_the_command_line(workspace) -> None:
    two(workspace.root / "stores")
    flags = ["--architecture", "topk", "--latents", "48", "--k", "2", "--batch", "64"]
    flags += ["--tokens", "640"]
    assert main(["train", "base+tuned", "resid_post.0", *flags]) == 0
    site = "resid_post.0@base+resid_post.0@tuned"
    folder = workspace.dictionary("toy+tuned", site, "topk-48-k2-s0")
    found = load_dictionary(folder)
    assert [part.site for part in found.parts] == ["resid_post.0@base", "resid_post.0@tuned"]
    assert relative_norms(found).shape == (48, 2)
    assert set(read_json(folder / "metrics.json")["heldout"]["fve_by_site"]) == set(site.split("+"))
    assert main(["train", "base+nobody", "resid_post.0", *flags]) == 1
