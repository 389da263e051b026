"""What cannot be captured says why; what does not fit is made to fit, and said."""

import numpy as np
import pytest
import torch

from interp.errors import ConfigError, DataError, ResourceError, StoreIncomplete
from interp.models import LoadedModel
from interp.models.bpe import BOS_TEXT
from interp.store import ActivationStore, verify
from tests.capture.tiny import SITES, lengthen

BIASES = {
    "resid_post.0": "layers.0._original_component.mlp._original_component.fc_out",
    "mlp_post.1": "layers.1._original_component.mlp._original_component.fc_in",
}


def add_to(model: LoadedModel, site: str, value: float) -> None:
    """Add to the first number of a site in every row."""
    bias = dict(model.bridge.named_parameters())[f"{BIASES[site]}._original_component.bias"]
    with torch.no_grad():
        bias[0] += value


# -- texts --------------------------------------------------------------------------------------


def test_a_corpus_without_text_is_refused(captured, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "blank.txt").write_text(" \n\n")
    with pytest.raises(DataError, match="empty has no text; give a file"):
        captured(corpus=tmp_path / "empty")
    (tmp_path / "specials.txt").write_text(BOS_TEXT * 3)
    with pytest.raises(DataError, match="the corpus holds no text; choose another one with --cor"):
        captured(corpus=tmp_path / "specials.txt")
    assert not list(tmp_path.glob("store-*"))


def test_one_work_alone_is_not_held_out(captured, tmp_path) -> None:
    (tmp_path / "one.txt").write_text("the cat sat on a mat")
    store = captured(corpus=tmp_path / "one.txt")
    assert len(store.documents) == 1
    assert not store.heldout.any()


def test_a_model_without_tokenizer_is_refused(captured, model) -> None:
    blind = LoadedModel("blind", model.bridge, None, digest="0" * 64)
    with pytest.raises(ConfigError, match="blind has no tokenizer, so it cannot read a corpus"):
        captured(by=blind)


# -- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_nan_and_infinity_are_refused_by_site_and_row(
    captured, model, tmp_path, bad, dtype
) -> None:
    ids = model.tokenizer.encode(" seven")
    row = np.flatnonzero(np.isin(captured().tokens, ids))[0]
    lengthen(model, " seven", bad)
    said = f"^site resid_pre.0 holds NaN or infinity, first in row {row}; check the model, or"
    with pytest.raises(DataError, match=said):
        captured(["resid_pre.0"], out=tmp_path / "out", dtype=dtype)
    with pytest.raises(StoreIncomplete, match="has 0 of"):
        ActivationStore.open(tmp_path / "out")


def test_nan_at_a_site_that_is_not_captured_but_seen_is_no_error(captured, model) -> None:
    add_to(model, "mlp_post.1", float("nan"))
    assert verify(captured(["resid_post.0"]).path) == []


def test_a_site_too_large_for_float16_goes_over_to_bfloat16(captured, model) -> None:
    add_to(model, "resid_post.0", 1e6)
    store = captured(dtype="float16")
    assert store.manifest.dtypes == {"resid_post.0": "bfloat16", "mlp_post.1": "float16"}
    assert store.manifest.overflow == {}
    exact = captured(dtype="float32").read("resid_post.0", 0, store.rows)
    found = store.read("resid_post.0", 0, store.rows)
    assert exact[:, 0].min() > 9e5
    np.testing.assert_allclose(found, exact, rtol=2**-8)


def test_what_overflows_only_later_is_cut_and_counted(captured, model) -> None:
    first = captured(dtype="float32")
    end = first.manifest.shards[0].rows
    later = set(first.tokens[end:].tolist()) - set(first.tokens[:end].tolist())
    weights = dict(model.bridge.named_parameters())["tok_embed._original_component.weight"]
    with torch.no_grad():
        weights[sorted(later)] = 70_000.0
    store = captured(dtype="float16")
    assert store.manifest.dtypes["resid_post.0"] == "float16"
    exact = captured(dtype="float32").read("resid_post.0", 0, store.rows)
    with np.errstate(over="ignore"):
        beyond = ~np.isfinite(exact.astype(np.float16))
    assert beyond[end:].any()
    assert store.manifest.overflow == {"resid_post.0": beyond.sum()}
    found = store.read("resid_post.0", 0, store.rows)
    assert (np.abs(found[beyond]) == 65_504).all()
    assert np.array_equal(found[~beyond], exact[~beyond].astype(np.float16))


# -- memory -------------------------------------------------------------------------------------


def out_of_memory_above(model: LoadedModel, windows: int, error: Exception) -> list[int]:
    """Let every batch of more windows fail; returns the sizes that were tried."""
    real, tried = model.activations, []

    def limited(tokens, sites):
        tried.append(len(tokens))
        if len(tokens) > windows:
            raise error
        return real(tokens, sites)

    model.activations = limited
    return tried


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
    ],
    ids=["cuda", "python", "torch on the cpu"],
)
def test_batches_shrink_until_they_fit_into_memory(captured, model, error) -> None:
    whole = captured()
    tried = out_of_memory_above(model, 3, error)
    store = captured()
    assert max(tried) > 3
    assert sum(size > 3 for size in tried) <= 3  # learnt once, not in every shard
    for site in SITES:
        found, wanted = (each.read(site, 0, whole.rows) for each in (store, whole))
        np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_a_window_that_does_not_fit_is_an_error_with_a_remedy(captured, model) -> None:
    out_of_memory_above(model, 0, MemoryError())
    with pytest.raises(ResourceError, match="one window of 10 tokens of tiny does not fit into"):
        captured()


def test_any_other_failure_of_the_model_is_not_hidden(captured, model) -> None:
    out_of_memory_above(model, 0, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        captured()
