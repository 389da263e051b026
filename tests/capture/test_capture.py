"""What is captured is what the model computes on each window of each text by itself."""

import numpy as np
import pytest
import torch

from interp.capture.config import CaptureConfig
from interp.corpus import load_corpus
from interp.errors import ConfigError, StoreError, UnknownName
from interp.models import LoadedModel
from interp.models.bpe import BOS
from interp.store import ActivationStore, verify
from tests.capture.tiny import CONTEXT, MARKED, SITES, TEXT, bytes_of, lengthen, tiny_model


def by_hand(model: LoadedModel, ids: list[int], hook: str) -> np.ndarray:
    """A hook's activations of one window, in a forward pass of its own, without padding."""
    bos = [] if model.tokenizer.bos is None else [BOS]
    read: list[torch.Tensor] = []
    with torch.inference_mode():
        model.bridge.run_with_hooks(
            torch.tensor([[*bos, *ids]]), fwd_hooks=[(hook, lambda x, hook: read.append(x.clone()))]
        )
    return read[0][0, len(bos) :].flatten(1).numpy()


def windows(store: ActivationStore) -> list[tuple[int, int]]:
    """First and last row + 1 of each window, from the documents alone."""
    span = store.manifest.context - (store.manifest.bos is not None)
    return [
        (first, min(first + span, document.first_row + document.rows))
        for document in store.documents
        for first in range(document.first_row, document.first_row + document.rows, span)
    ]


def expected(model: LoadedModel, store: ActivationStore, hook: str) -> np.ndarray:
    parts = [by_hand(model, store.tokens[a:b].tolist(), hook) for a, b in windows(store)]
    return np.concatenate(parts)


@pytest.mark.parametrize("batch_tokens", [1, 64, 4096])
def test_rows_are_the_activations_of_each_window_alone(captured, model, batch_tokens) -> None:
    store = captured(batch_tokens=batch_tokens)
    assert len(store.manifest.shards) > 3
    hooks = {"resid_post.0": "blocks.0.hook_out", "mlp_post.1": "blocks.1.mlp.out.hook_in"}
    assert {site.name: site.hook for site in store.sites.values()} == hooks
    for site, hook in hooks.items():
        found = store.read(site, 0, store.rows)
        assert np.abs(found).max() > 0.1
        np.testing.assert_allclose(found, expected(model, store, hook), atol=2e-6)
    assert verify(store.path) == []


def test_every_token_of_every_text_is_there_once_in_its_place(captured, model, texts) -> None:
    store = captured()
    text = {d.title: d.text for d in load_corpus(str(texts)).documents()}
    assert sorted(d.title for d in store.documents) == sorted(text)
    index = np.arange(store.rows)
    for number, document in enumerate(store.documents):
        rows = slice(document.first_row, document.first_row + document.rows)
        wanted = [i for i in model.tokenizer.encode(text[document.title]) if i != BOS]
        assert store.tokens[rows].tolist() == wanted
        assert (store.document_index[rows] == number).all()
        assert store.positions[rows].tolist() == (index[: document.rows] % 9 + 1).tolist()
        if MARKED not in document.title:
            assert store.vocabulary.text(store.tokens[rows].tolist()) == text[document.title]


def test_special_tokens_are_never_stored(captured, model, texts) -> None:
    (marked,) = [d for d in load_corpus(str(texts)).documents() if MARKED in d.title]
    assert model.tokenizer.encode(marked.text).count(BOS) == 2
    store = captured()
    assert BOS not in store.tokens
    assert store.manifest.bos == BOS
    assert BOS in store.vocabulary.specials


def test_without_bos_windows_are_whole_and_begin_with_a_sink(captured, tokenizer) -> None:
    model = tiny_model(tokenizer, bos=None)
    store = captured(by=model)
    assert store.manifest.bos is None
    firsts = [first for first, _ in windows(store)]
    assert np.flatnonzero(store.positions == 0).tolist() == firsts
    assert store.sinks[firsts].all()
    assert store.positions.max() == 9
    found = store.read("resid_post.0", 0, store.rows)
    np.testing.assert_allclose(found, expected(model, store, "blocks.0.hook_out"), atol=2e-6)


@pytest.mark.parametrize("sites", [SITES, ["mlp_post.1"]], ids=["captured witness", "other"])
def test_rows_of_extraordinary_length_are_marked_as_sinks(captured, model, sites) -> None:
    for number, word in enumerate(TEXT.split()):  # lengths on both sides of the limit
        lengthen(model, f" {word}", 2.0 ** (number / 2))
    store = captured(sites)
    name, hook = "resid_pre.1", "blocks.1.hook_in"
    if "resid_post.0" in sites:
        name, hook = "resid_post.0", "blocks.0.hook_out"
    norms = np.linalg.norm(expected(model, store, hook), axis=1)
    first = store.manifest.shards[0].rows
    limit = 10 * np.median(norms[:first])
    ends = np.cumsum([entry.rows for entry in store.manifest.shards])[:-1]
    by_shard = [part > 10 * np.median(part) for part in np.split(norms, ends)]
    assert np.concatenate(by_shard).tolist() != (norms > limit).tolist()  # which one matters
    assert store.manifest.sinks["threshold"] == pytest.approx(limit, rel=1e-5)
    assert name in store.manifest.sinks["rule"]
    assert store.sinks.tolist() == (norms > limit).tolist()
    assert store.manifest.sinks["count"] == store.sinks.sum()
    assert store.sinks[:first].any()
    assert store.sinks[first:].any()
    assert not store.sinks[store.rows_of("all")].any()


def test_whole_works_are_held_out_by_the_seed(captured) -> None:
    found = {}
    for seed in (0, 0, 1, 2):
        store = captured(seed=seed)
        held = {d.title for d in store.documents if d.heldout}
        assert {title.split("/")[0] for title in held} == {"prose", "verse"}
        assert len(held) == 4  # round(0.3 · 5) of each domain
        assert found.setdefault(seed, held) == held
        titles = np.array([d.title for d in store.documents])[store.document_index]
        assert set(titles[store.heldout]) == held
        assert not held & set(titles[store.rows_of("train")])
    assert len(set(map(frozenset, found.values()))) > 1


def test_a_budget_is_kept_and_shared_by_the_domains(captured) -> None:
    store = captured(tokens=200)
    assert store.rows == 200
    rows = {domain: 0 for domain in ("prose", "verse")}
    for document in store.documents:
        rows[document.domain] += document.rows
    assert min(rows.values()) >= 60
    assert 0 < store.heldout.sum() < 200


def test_sites_are_found_by_pattern_and_their_order_does_not_matter(captured, model) -> None:
    both = captured(["resid_post.*", "mlp_post.1"])
    assert list(both.sites) == ["resid_post.0", "resid_post.1", "mlp_post.1"]
    turned = captured(["blocks.1.mlp.out.hook_in", "resid_post.1", "resid_post.1", "resid_post.0"])
    assert list(turned.sites) == ["mlp_post.1", "resid_post.1", "resid_post.0"]
    assert set(captured("*").sites) == set(model.sites())
    for site in both.sites:
        alone = captured([site])
        values = both.read(site, 0, both.rows)
        assert np.array_equal(turned.read(site, 0, both.rows), values)
        assert np.array_equal(alone.read(site, 0, both.rows), values)


def test_the_same_request_gives_the_same_bytes(captured, tokenizer) -> None:
    first = captured(dtype="float16")
    again = captured(dtype="float16", by=tiny_model(tokenizer))
    assert bytes_of(first.path) == bytes_of(again.path)
    kinds = {"manifest.json", "documents.jsonl", "vocabulary.json", "shard-00000.h5"}
    assert kinds <= set(bytes_of(first.path))


def test_a_finished_store_is_returned_and_another_request_refused(
    captured, model, texts, tmp_path
) -> None:
    out = tmp_path / "out"
    before = captured(out=out)
    model.activations = None  # nothing is computed again
    assert captured(out=out, batch_tokens=7).digest == before.digest
    for other, what in (
        ({"tokens": 50}, "tokens 1000000 there, 50 now"),
        ({"seed": 3, "dtype": "float16"}, "seed 0 there, 3 now; dtype float32 there, float16 now"),
        ({"sites": ["mlp_post.0"]}, "another model, dtype, corpus or other sites"),
        ({"corpus": texts / "verse"}, "another model, dtype, corpus"),
    ):
        with pytest.raises(StoreError, match=rf"another capture \({what}.*; choose another --out"):
            captured(out=out, **other)
    assert ActivationStore.open(out).digest == before.digest


def test_what_does_not_exist_is_refused_with_near_names(captured, tmp_path) -> None:
    for site in ("resid_pots.0", "resid_post.7", "resid_pst.*"):
        with pytest.raises(UnknownName, match=r"site of tiny .*(resid_post\.0|known: )"):
            captured([site])
    with pytest.raises(ConfigError, match="no site was named"):
        captured([])
    with pytest.raises(UnknownName, match="did you mean: library"):
        captured(corpus="libary")
    with pytest.raises(UnknownName, match="did you mean: tokens"):
        captured(token=5)
    with pytest.raises(UnknownName, match="did you mean: float16"):
        captured(dtype="float15")
    with pytest.raises(ConfigError, match=f"at most {CONTEXT} tokens at once; use --context 16"):
        captured(context=17)
    with pytest.raises(ConfigError, match="has no room beside BOS; use at least 2"):
        captured(context=1)
    assert not list(tmp_path.glob("store-*/*.h5"))


@pytest.mark.parametrize(
    "wrong",
    [{"tokens": 0}, {"heldout": 1.0}, {"seed": -1}, {"shard_rows": 5}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_settings_that_cannot_work_are_refused(wrong) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        CaptureConfig(**({"context": 10} | wrong))
